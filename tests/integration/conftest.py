# SPDX-License-Identifier: MIT
"""Clusters for tests: one for each module, and as many of its own as a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemons import EXAMPLES, Cluster, running_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node with two workers and the demo package, for all tests of a module."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "c", "--workers", "2") as running:
        running.put_package("demo", EXAMPLES / "demo")
        running.wait_listed("demo.demo_task.TestTask")
        yield running


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """A function that starts a cluster for this test: options of ``cluster up``, PYDRA_ variables."""
    with ExitStack() as stack:

        def start(*options: str, **variables: str) -> Cluster:
            return stack.enter_context(running_cluster(tmp_path / "own", *options, **variables))

        yield start
