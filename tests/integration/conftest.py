# SPDX-License-Identifier: MIT
"""Clusters for tests: one for each module, and as many of its own as a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pluggy
import pytest

from tests.support.daemons import EXAMPLES, Cluster, running, running_cluster
from tests.support.descriptors import none_left


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Show the end of each daemon's log with the report of a test that failed."""
    report = (yield).get_result()
    if report.failed:
        report.sections += [(f"daemons of {each.directory}", each.logs()) for each in running]


@pytest.fixture(autouse=True, scope="module")
def no_descriptors_left() -> Iterator[None]:
    """Fail a module that leaves a descriptor open: what it keeps running has others after each test."""
    with none_left():
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node with two workers and the demo package, for all tests of a module."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "c", "--workers", "2") as made:
        made.put_package("demo", EXAMPLES / "demo")
        made.wait_listed("demo.demo_task.TestTask")
        yield made


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A function that starts a cluster for this test: options of ``cluster up``, PYDRA_ variables."""
    with ExitStack() as stack:

        def start(*options: str, **variables: str) -> Cluster:
            return stack.enter_context(running_cluster(tmp_path / "own", *options, **variables))

        yield start
