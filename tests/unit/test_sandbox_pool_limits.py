# SPDX-License-Identifier: MIT
"""What a pool asks its launcher for when a package asks for limits, with the launcher played by the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds
from pydra.cluster.sandbox.site_limits import SiteLimits
from pydra.errors import PydraError
from pydra.model.package import Needs, TaskLimits
from tests.support.scripted_launcher import Listener, ScriptedLauncher

VERSION = "ab" * 32
DEFAULTS = Bounds(100 * MEBIBYTE, 10, 0.0, 200 * MEBIBYTE, 1000)
CEILINGS = Bounds(400 * MEBIBYTE, 40, 4.0, 800 * MEBIBYTE, 1000)


class Taking:
    """A take that was begun, and what came of it."""

    def __init__(self, launcher: ScriptedLauncher, **limits: Any) -> None:
        self.listener = Listener()
        self.result: list[Any] = []
        needs = Needs(limits=TaskLimits(**limits))
        taking = launcher.pool.take(self.listener, "demo", VERSION, needs)  # type: ignore[arg-type]
        self.deferred = Deferred.fromCoroutine(taking)
        self.deferred.addBoth(self.result.append)

    @property
    def fault(self) -> str:
        """Why there is none."""
        [failure] = self.result
        assert isinstance(failure, Failure)
        assert isinstance(failure.value, PydraError)
        return f"{failure.value.code}: {failure.getErrorMessage()}"


@pytest.fixture
def launcher() -> Iterator[ScriptedLauncher]:
    """A launcher of a node that gives the network, with one worker that is ready."""
    made = ScriptedLauncher(1, SiteLimits(DEFAULTS, CEILINGS, network=True, isolation="full"))
    Deferred.fromCoroutine(made.pool.start())
    assert [("launch", 1)] == made.turn()
    made.ready(1)
    yield made
    made.close()


def test_a_warm_worker_gets_its_bounds_with_its_package(launcher: ScriptedLauncher) -> None:
    """No other worker has to be launched for that; what is not asked for is the usual."""
    Taking(launcher, memory=300 * MEBIBYTE, cpus=0.5)
    requests: list[Any] = []
    launcher.on_request = requests.append
    launcher.turn()
    assert ["fill", "launch"] == [each["what"] for each in requests]
    assert [300 * MEBIBYTE, 10, 0.5, 200 * MEBIBYTE, 1000] == requests[0]["bounds"]


def test_too_much_is_refused_before_a_worker_is_taken(launcher: ScriptedLauncher) -> None:
    """The ready one stays for others."""
    assert "limit: The task asks for 500 MiB of memory" in Taking(launcher, memory=500 * MEBIBYTE).fault
    assert [] == launcher.turn()


def test_the_network_needs_a_worker_of_its_own(launcher: ScriptedLauncher) -> None:
    """It is launched for its taker, and nobody else gets it; the warm one stays."""
    taking = Taking(launcher, network=True)
    requests: list[Any] = []
    launcher.on_request = requests.append
    assert [("launch", 2)] == launcher.turn()
    assert requests[0]["network"] is True
    launcher.ready(2)
    assert [("fill", 2)] == launcher.turn()
    launcher.answer("filled", 2)
    assert 2 == taking.result[0].number


def test_a_worker_with_network_that_does_not_start_is_told(launcher: ScriptedLauncher) -> None:
    """At once, and the warm ones are not to blame."""
    taking = Taking(launcher, network=True)
    launcher.turn()
    launcher.answer("failed", 2, reason="This node gives no worker the network.")
    launcher.workers.pop(2).close()
    assert "workers_unavailable: No worker can be started: This node gives no" in taking.fault
    assert [] == launcher.turn()


def test_a_taker_of_the_network_may_leave(launcher: ScriptedLauncher) -> None:
    """Its worker ends."""
    taking = Taking(launcher, network=True)
    launcher.turn()
    taking.deferred.cancel()
    assert [("kill", 2)] == launcher.turn()
    launcher.exit(2)
    launcher.clock.advance(20)
    launcher.turn()
    assert isinstance(taking.result[0], Failure)


def test_stopping_refuses_who_waits_for_the_network(launcher: ScriptedLauncher) -> None:
    """Nobody waits for ever."""
    taking = Taking(launcher, network=True)
    launcher.turn()
    stopped = Deferred.fromCoroutine(launcher.pool.stop())
    launcher.turn()
    for number in (1, 2):
        launcher.exit(number)
    assert "The daemon is stopping." in taking.fault
    assert stopped.called


def test_a_reached_limit_comes_with_the_end(launcher: ScriptedLauncher) -> None:
    """In the launcher's words."""
    taking = Taking(launcher)
    launcher.turn()
    launcher.answer("filled", 1)
    launcher.exit(1, 137, "memory limit of 100 MiB reached")
    ending = taking.listener.told[-1]
    assert isinstance(ending, WorkerExit)
    assert "memory limit of 100 MiB reached" == ending.limit


def test_a_pool_without_limits_takes_no_wishes() -> None:
    """The master's own workers are alike, whatever the package asks for."""
    made = ScriptedLauncher(1)
    Deferred.fromCoroutine(made.pool.start())
    made.turn()
    made.ready(1)
    requests: list[Any] = []
    made.on_request = requests.append
    Taking(made, memory=2**50, network=True, isolation="full")
    made.turn()
    assert ["fill", "launch"] == [each["what"] for each in requests]
    assert "bounds" not in requests[0]
    made.close()
