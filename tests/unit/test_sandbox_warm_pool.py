# SPDX-License-Identifier: MIT
"""Workers launched ahead, with the launcher played by the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.demand import LATELY_S
from pydra.cluster.sandbox.setbacks import LONGEST_PAUSE_S, PATIENCE
from pydra.cluster.sandbox.warm_pool import READY_S, START_LIMIT, UNHURRIED_LIMIT
from pydra.cluster.wire.frames import READY
from pydra.errors import SandboxError, WorkersUnavailable
from tests.support.scripted_launcher import Listener, ScriptedLauncher

VERSION = "ab" * 32


class Taking:
    """A take that was begun, and what came of it."""

    def __init__(self, launcher: ScriptedLauncher, package: str | None = None) -> None:
        self.listener = Listener()
        self.result: list[Any] = []
        version: Any = VERSION if package else None
        self.deferred = Deferred.fromCoroutine(launcher.pool.take(self.listener, package, version))  # type: ignore[arg-type]
        self.deferred.addBoth(self.result.append)

    @property
    def number(self) -> int | None:
        """The number of the worker; None if there is none yet."""
        return self.result[0].number if self.result else None

    @property
    def fault(self) -> str:
        """Why there is none."""
        failure = self.result[0]
        assert isinstance(failure, Failure)
        assert failure.check(SandboxError)
        return failure.getErrorMessage()


def start(launcher: ScriptedLauncher) -> list[tuple[str, int]]:
    """Start the pool; its requests."""
    Deferred.fromCoroutine(launcher.pool.start())
    return launcher.turn()


@pytest.fixture
def launcher() -> Iterator[ScriptedLauncher]:
    """A launcher for a pool of two, started, both workers ready."""
    made = ScriptedLauncher(2)
    assert [("launch", 1), ("launch", 2)] == start(made)
    made.ready(1, 2)
    yield made
    made.close()


@pytest.fixture
def cold() -> Iterator[ScriptedLauncher]:
    """A launcher for a pool that keeps nothing ready."""
    made = ScriptedLauncher(0)
    assert [] == start(made)
    yield made
    made.close()


def test_a_ready_worker_is_given_at_once_and_replaced(launcher: ScriptedLauncher) -> None:
    """Taking does not wait, and the pool is full again afterwards."""
    taking = Taking(launcher)
    assert 1 == taking.number
    assert [("launch", 3)] == launcher.turn()


def test_the_package_is_asked_for_before_the_next_worker(launcher: ScriptedLauncher) -> None:
    """A taker does not wait for the launch of a worker that is not its own."""
    taking = Taking(launcher, "demo")
    assert [("fill", 1), ("launch", 3)] == launcher.turn()
    assert taking.number is None
    launcher.answer("filled", 1)
    assert 1 == taking.number


def test_takers_wait_in_order(cold: ScriptedLauncher) -> None:
    """When no worker is ready, who came first is served first."""
    first, second = Taking(cold), Taking(cold)
    assert [("launch", 1), ("launch", 2)] == cold.turn()
    cold.ready(2)
    assert (2, None) == (first.number, second.number)
    cold.ready(1)
    assert 1 == second.number


def test_few_workers_start_at_a_time() -> None:
    """However many wait, they are started bit by bit, and still fewer when nobody waits."""
    launcher = ScriptedLauncher(20)
    assert UNHURRIED_LIMIT == len(start(launcher))
    takings = [Taking(launcher) for _ in range(START_LIMIT + 2)]
    assert START_LIMIT - UNHURRIED_LIMIT == len(launcher.turn())
    launcher.ready(2)
    assert [("launch", START_LIMIT + 1)] == launcher.turn()
    assert 2 == takings[0].number
    launcher.close()
    assert all(taking.result for taking in takings)


def test_the_pool_grows_with_demand_and_shrinks_without() -> None:
    """As many are kept as were taken lately; later the oldest of them are ended, but for two."""
    launcher = ScriptedLauncher(5)
    start(launcher)
    launcher.ready(1, 2)
    takings = [Taking(launcher) for _ in range(4)]
    for _ in range(8):
        launcher.ready(*(number for what, number in launcher.turn() if what == "launch"))
    assert [1, 2, 3, 4] == [taking.number for taking in takings]
    assert {1, 2, 3, 4, 5, 6, 7, 8} == set(launcher.workers)
    for _ in range(4):
        launcher.clock.advance(LATELY_S / 3)
    assert [("kill", 5), ("kill", 6)] == launcher.turn()
    launcher.exit(5)
    launcher.exit(6)
    assert [] == launcher.turn()
    assert 7 == Taking(launcher).number
    launcher.close()


def test_a_missing_version_is_told_and_the_worker_ends(launcher: ScriptedLauncher) -> None:
    """Nobody gets a worker without the package that was asked for."""
    taking = Taking(launcher, "demo")
    launcher.turn()
    launcher.answer("unfilled", 1, reason="The cache has no version.")
    assert "The cache has no version." == taking.fault
    assert [("kill", 1)] == launcher.turn()


def test_fills_that_are_refused_are_no_failed_launches(launcher: ScriptedLauncher) -> None:
    """However often a package cannot be had, whoever wants another one gets a worker."""
    for number in range(1, PATIENCE + 2):
        taking = Taking(launcher, "demo")
        launcher.ready(*(launched for what, launched in launcher.turn() if what == "launch"))
        launcher.answer("unfilled", number, reason="No space left on device")
        assert "No space left on device" == taking.fault
        assert [("kill", number)] == launcher.turn()
        launcher.exit(number)
    assert PATIENCE + 2 == Taking(launcher).number


def test_a_fill_that_the_launcher_does_not_take_for_a_request_is_told(launcher: ScriptedLauncher) -> None:
    """Its taker does not wait for ever."""
    taking = Taking(launcher, "demo")
    launcher.turn()
    launcher.answer("refused", 1, reason="The packages are not a list of 1 to 64.")
    assert "The packages are not a list of 1 to 64." == taking.fault


def test_what_the_machine_is_short_of_passes(launcher: ScriptedLauncher) -> None:
    """A disk without room for the package is no fault of the package: it may begin elsewhere, or later."""
    taking = Taking(launcher, "demo")
    launcher.turn()
    launcher.answer("unfilled", 1, reason="[Errno 28] No space left on device", passes=True)
    assert taking.result[0].check(WorkersUnavailable)


@pytest.mark.parametrize("what", ["refused", "failed"])
def test_launches_that_never_began_do_not_count_as_starting(cold: ScriptedLauncher, what: str) -> None:
    """Whatever the launcher says of them, others are launched in their place."""
    taking = Taking(cold)
    for number in range(1, START_LIMIT + 2):
        assert [("launch", number)] == cold.turn()
        cold.answer(what, number, reason="A launch needs two descriptors.")
        cold.workers.pop(number).close()
        cold.clock.advance(LONGEST_PAUSE_S)
        if number >= PATIENCE:
            assert "No worker can be started: A launch needs two descriptors." == taking.fault
            taking = Taking(cold)
    cold.turn()
    cold.ready(START_LIMIT + 2)
    assert START_LIMIT + 2 == taking.number


def test_a_worker_that_ends_while_it_is_filled_is_replaced_for_its_taker(launcher: ScriptedLauncher) -> None:
    """The taker gets another one and does not learn of it."""
    taking = Taking(launcher, "demo")
    launcher.turn()
    launcher.exit(1)
    assert ("fill", 2) in launcher.turn()
    launcher.answer("filled", 2)
    assert 2 == taking.number


def test_a_taker_may_leave(cold: ScriptedLauncher) -> None:
    """The worker launched for it stays for the next one."""
    taking = Taking(cold)
    cold.turn()
    taking.deferred.cancel()
    assert isinstance(taking.result[0], Failure)
    cold.ready(1)
    assert 1 == Taking(cold).number


def test_a_taker_that_leaves_while_its_worker_is_filled_ends_it(launcher: ScriptedLauncher) -> None:
    """A worker with a package is of no use to anybody else."""
    taking = Taking(launcher, "demo")
    launcher.turn()
    taking.deferred.cancel()
    assert [("kill", 1)] == launcher.turn()
    launcher.answer("filled", 1)


def test_failures_are_tried_again_after_pauses_that_double(cold: ScriptedLauncher) -> None:
    """A taker waits through two failures and is told the third, with what the worker said."""
    taking = Taking(cold)
    assert [("launch", 1)] == cold.turn()
    cold.exit(1, 1)
    assert [] == cold.turn()
    cold.clock.advance(0.1)
    assert [("launch", 2)] == cold.turn()
    cold.answer("failed", 2, reason="No slot uid is free.")
    cold.workers.pop(2).close()
    cold.clock.advance(0.19)
    assert [] == cold.turn()
    cold.clock.advance(0.01)
    assert [("launch", 3)] == cold.turn()
    import os

    os.write(cold.workers[3].output, b"bwrap: no space\n")
    cold.exit(3, 1)
    assert "No worker can be started: exited with status 1: bwrap: no space" == taking.fault
    assert "bwrap: no space" in Taking(cold).fault
    cold.clock.advance(0.4)
    again = Taking(cold)
    assert [("launch", 4)] == cold.turn()
    cold.ready(4)
    assert 4 == again.number


def test_why_nothing_can_be_started_is_known_without_asking(launcher: ScriptedLauncher) -> None:
    """From the third failure on until a worker is ready again, also while that is tried."""
    for number in (1, 2):
        launcher.exit(number, 1)
    for _ in range(PATIENCE - 1):
        assert "" == launcher.pool.refusal()
        launcher.clock.advance(LONGEST_PAUSE_S)
        for _, number in launcher.turn():
            launcher.exit(number, 1)
    assert "No worker can be started: exited with status 1" == launcher.pool.refusal()
    launcher.clock.advance(LONGEST_PAUSE_S)
    assert "" != launcher.pool.refusal()
    launcher.ready(launcher.turn()[0][1])
    assert "" == launcher.pool.refusal()
    Deferred.fromCoroutine(launcher.pool.stop())
    assert "The daemon is stopping." == launcher.pool.refusal()


def test_the_pause_has_an_end(launcher: ScriptedLauncher) -> None:
    """A machine that works again is found out soon, however long it did not."""
    for number in (1, 2):
        launcher.exit(number)
    for _ in range(12):
        launcher.clock.advance(LONGEST_PAUSE_S)
        requests = launcher.turn()
        assert [("launch", requests[0][1]), ("launch", requests[0][1] + 1)] == requests
        for _, number in requests:
            launcher.exit(number)


def test_an_idle_worker_that_ends_is_replaced_after_a_pause(launcher: ScriptedLauncher) -> None:
    """It cannot make the pool spin."""
    launcher.exit(1, 139)
    assert [] == launcher.turn()
    launcher.clock.advance(0.1)
    assert [("launch", 3)] == launcher.turn()
    assert 2 == Taking(launcher).number


def test_a_worker_that_does_not_become_ready_is_killed(cold: ScriptedLauncher) -> None:
    """Starting has a time limit."""
    Taking(cold).deferred.addErrback(lambda failure: None)
    cold.turn()
    cold.clock.advance(READY_S)
    assert [("kill", 1)] == cold.turn()


def test_an_idle_worker_that_speaks_is_killed(launcher: ScriptedLauncher) -> None:
    """A worker that says anything but READY before it was asked is no pristine one."""
    launcher.workers[2].say(READY)
    assert [("kill", 2)] == launcher.turn()


def test_stopping_kills_all_and_waits(launcher: ScriptedLauncher) -> None:
    """Taken workers are killed too, takers are told, and only then the launcher is left."""
    taking = Taking(launcher)
    launcher.turn()
    waiting = [Taking(launcher), Taking(launcher)]
    stopped: list[object] = []
    Deferred.fromCoroutine(launcher.pool.stop()).addBoth(stopped.append)
    numbers = {number for what, number in launcher.turn() if what == "kill"}
    assert numbers == set(launcher.workers)
    assert "stopping" in waiting[1].fault
    for number in sorted(numbers):
        assert [] == stopped
        launcher.exit(number)
    assert [None] == stopped
    assert [WorkerExit(137, "killed by signal 9 (SIGKILL)")] == taking.listener.told
    assert "stopping" in Taking(launcher).fault


def test_a_worker_may_become_ready_while_the_pool_stops(cold: ScriptedLauncher) -> None:
    """It is killed like the others and given to nobody."""
    taking = Taking(cold)
    cold.turn()
    Deferred.fromCoroutine(cold.pool.stop())
    cold.ready(1)
    assert "stopping" in taking.fault
    cold.exit(1)


def test_stopping_does_not_wait_for_ever(launcher: ScriptedLauncher) -> None:
    """A launcher that does not answer is left."""
    stopped: list[object] = []
    Deferred.fromCoroutine(launcher.pool.stop()).addBoth(stopped.append)
    launcher.clock.advance(5.0)
    assert [None] == stopped


def test_a_listener_that_raises_harms_nobody_else(launcher: ScriptedLauncher) -> None:
    """Its worker ends like others, and the pool goes on."""

    class Faulty(Listener):
        def frame_received(self, frame: list[object]) -> None:
            raise ZeroDivisionError

    faulty = Faulty()
    Deferred.fromCoroutine(launcher.pool.take(faulty, None, None))
    launcher.turn()
    launcher.workers[1].say(20, b"")
    launcher.exit(1, 0)
    assert [WorkerExit(0, "exited with status 0")] == faulty.told
    assert 2 == Taking(launcher).number


def test_a_launcher_that_ends_is_told_to_all(launcher: ScriptedLauncher) -> None:
    """The daemon first; then its workers have died with it, and takers are refused."""
    taking = Taking(launcher)
    launcher.turn()
    told_before: list[list[object]] = []
    launcher.lost = lambda: told_before.append(list(taking.listener.told))
    launcher.control.close()
    launcher.clock.turn()
    assert [[]] == told_before
    ending = taking.listener.told[0]
    assert isinstance(ending, WorkerExit)
    assert 137 == ending.status
    assert "launcher" in ending.reason
    assert "start the daemon again" in Taking(launcher).fault
