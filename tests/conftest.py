# SPDX-License-Identifier: MIT
"""What holds for every test: the hypothesis profiles, and that no failure goes unseen."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.descriptors import none_left

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts behind itself ignore Ctrl-C, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root, with that reason, where we are not root."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root_only"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(autouse=True)
def no_descriptors_left() -> Iterator[None]:
    """
    Fail a test that leaves a descriptor open.

    Those of fixtures of a module stay, as long as these are made before the test's own.
    """
    with none_left():
        yield


@pytest.fixture(autouse=True)
def no_unhandled_failures() -> Iterator[None]:
    """
    Fail a test that leaves a Deferred with a failure nobody looked at.

    Twisted tells of it when the Deferred is collected. The young generations are what a test made; the whole
    heap would cost more than most tests do.
    """
    if "twisted.internet.defer" not in sys.modules:
        yield
        return
    from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
    from zope.interface import provider

    seen: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "twisted.internet.defer" and event["log_level"] is LogLevel.critical:
            seen.append(str(event.get("log_failure", event.get("log_format"))))

    globalLogPublisher.addObserver(observe)
    try:
        yield
        gc.collect(1)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not seen, "a Deferred failed and nobody looked:\n" + "\n".join(seen)
