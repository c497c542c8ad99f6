# SPDX-License-Identifier: MIT
"""The open descriptors of this process, which tests are not to leave behind."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator

PATIENCE_S = 30.0

REACTOR = "twisted.internet.reactor"

RESERVE = "/dev/null"
"""Twisted keeps one from the first time on that it listens, in case descriptors run out."""


def open_descriptors() -> dict[str, str]:
    """What each descriptor of this process is, by number, but for those of ``RESERVE``."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return {number: opened for number, opened in found.items() if opened != RESERVE}


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """
    Fail if a descriptor is left open that was not before.

    Those of the global reactor stay once it is there. What a server in a thread or a process closes when its
    client is gone may take its time.
    """
    before, had_reactor = open_descriptors(), REACTOR in sys.modules
    yield
    if open_descriptors().items() <= before.items() or had_reactor != (REACTOR in sys.modules):
        return
    gc.collect()
    until = time.monotonic() + PATIENCE_S
    while left := open_descriptors().items() - before.items():
        assert time.monotonic() < until, f"descriptors are left open: {sorted(left)}"
        time.sleep(0.01)  # noqa: TID251 - waits for the outside
