# SPDX-License-Identifier: MIT
"""What is imported ahead, when, and what becomes of it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.sandbox.primer import PRIME_S
from pydra.cluster.sandbox.priming import IN_USE_S, OUTPUT_LIMIT, SHUNNED_S, Budget
from pydra.cluster.wire.frames import LOG, PRIME, PRIMED, RESULT
from tests.support.scripted_launcher import Listener, ScriptedLauncher

VERSION = "ab" * 32
MEGABYTE = 2**20


class Place:
    """A pool that primes, and takers of it."""

    def __init__(self, size: int = 2, budget: Budget = Budget(2, 256 * MEGABYTE)) -> None:  # noqa: B008 - it is frozen
        self.launcher = ScriptedLauncher(size, primed=budget)
        Deferred.fromCoroutine(self.launcher.pool.start())
        self.serve()

    def serve(self) -> list[tuple[str, int]]:
        """Be a launcher whose workers are ready at once and filled at once; the requests."""
        seen: list[tuple[str, int]] = []
        while requests := self.launcher.turn():
            seen += requests
            for what, number in requests:
                if what == "launch":
                    self.launcher.ready(number)
                elif what == "fill":
                    self.launcher.answer("filled", number)
                elif what == "kill":
                    self.launcher.exit(number)
        return seen

    def take(self, module: str = "tasks", package: str = "demo") -> tuple[int, Listener]:
        """The number of a worker that was taken, and its listener."""
        listener = Listener()
        results: list[Any] = []
        taking = self.launcher.pool.take(listener, package, VERSION, module=module)  # type: ignore[arg-type]
        Deferred.fromCoroutine(taking).addBoth(results.append)
        self.serve()
        return results[0].number, listener

    def asked(self) -> dict[int, list[object]]:
        """The PRIME that each worker was sent since the last look."""
        found = {}
        for number, worker in self.launcher.workers.items():
            for frame in worker.heard():
                if frame[0] == PRIME:
                    found[number] = frame
        return found

    def primed(self, fault: str = "", memory: int = 10 * MEGABYTE) -> int:
        """The worker that was asked to import says that it has; its number."""
        ((number, _),) = self.asked().items()
        self.launcher.workers[number].say(PRIMED, fault, memory)
        self.serve()
        return number

    def pass_time(self, seconds: float) -> None:
        """Let time go by in steps."""
        for _ in range(20):
            self.launcher.clock.advance(seconds / 20)
            self.serve()


@pytest.fixture
def place() -> Any:
    """A place for two, closed at the end."""
    made = Place()
    yield made
    made.launcher.close()


def test_what_was_used_is_imported_ahead(place: Place) -> None:
    """The next taker of the same module gets a worker that has it, without a fill of its own."""
    place.take()
    number = place.primed()
    place.launcher.workers[number].heard()
    assert number == place.take()[0]
    assert ("fill", number) not in place.launcher.turn()


def test_the_worker_is_told_what_to_import(place: Place) -> None:
    """Package, module and dependencies."""
    place.take("sub.tasks")
    assert [[PRIME, "demo", "sub.tasks", []]] == list(place.asked().values())


@pytest.mark.parametrize(("module", "package"), [("other", "demo"), ("tasks", "other"), ("", "demo")])
def test_nobody_else_gets_it(module: str, package: str, place: Place) -> None:
    """Another module or package, or one that does not say what it runs, gets an unused worker."""
    place.take()
    number = place.primed()
    assert number != place.take(module, package)[0]


def test_it_is_used_once(place: Place) -> None:
    """Two takers never share a worker."""
    place.take()
    number = place.primed()
    assert number == place.take()[0]
    assert number != place.take()[0]


def test_one_is_primed_at_a_time(place: Place) -> None:
    """Tasks come first; the second begins when the first is done."""
    place.take()
    place.take()
    assert 1 == len(place.asked())


def test_as_many_as_were_used_lately_within_the_budget() -> None:
    """Three uses and a budget of two workers make two."""
    place = Place()
    for _ in range(3):
        place.take()
    place.primed()
    place.primed()
    assert {} == place.asked()
    place.launcher.close()


def test_memory_has_a_limit() -> None:
    """What would not fit is not primed, as soon as it is known how much one takes."""
    place = Place(budget=Budget(4, 100 * MEGABYTE))
    for _ in range(3):
        place.take()
    place.primed(memory=60 * MEGABYTE)
    assert {} == place.asked()
    place.launcher.close()


def test_no_budget_is_no_priming() -> None:
    """The setting 0 turns it off."""
    place = Place(budget=Budget(4, 0))
    place.take()
    assert {} == place.asked()
    place.launcher.close()


@pytest.mark.parametrize("fault", ["ValueError: no", "it called sys.exit(3)"])
def test_a_module_that_fails_is_left_alone_for_a_while(fault: str, place: Place) -> None:
    """Its worker is ended; takers get unused ones; later it is tried again."""
    place.take()
    number = place.primed(fault)
    assert number not in place.launcher.workers
    assert number != place.take()[0]
    assert {} == place.asked()
    place.pass_time(SHUNNED_S + 1)
    place.take()
    assert 1 == len(place.asked())


def test_a_module_that_hangs_is_left_alone(place: Place) -> None:
    """After the time that it had, its worker is ended."""
    place.take()
    ((number, _),) = place.asked().items()
    place.pass_time(PRIME_S + 1)
    assert number not in place.launcher.workers
    place.take()
    assert {} == place.asked()


def test_a_module_that_ends_its_process_is_no_failure_of_the_pool(place: Place) -> None:
    """Launching goes on without a pause."""
    place.take()
    ((number, _),) = place.asked().items()
    place.launcher.exit(number, 3)
    place.serve()
    taken, _ = place.take()
    assert taken != number
    assert {} == place.asked()


@pytest.mark.parametrize(
    "frames", [[[RESULT, b""]], [[LOG, []]], [[PRIMED]], [[PRIMED, 1, 2]], [[PRIMED, "", 1], [PRIMED, "", 1]]]
)
def test_a_hostile_worker_is_ended(frames: list[list[object]], place: Place) -> None:
    """Whoever says anything but one PRIMED is of no use to anybody."""
    place.take()
    ((number, _),) = place.asked().items()
    for frame in frames:
        place.launcher.workers[number].say(*frame)
    place.serve()
    assert number not in place.launcher.workers
    assert number != place.take()[0]


def test_output_of_the_import_comes_to_the_taker(place: Place) -> None:
    """Bytes on descriptors 1 and 2 are kept for whoever runs."""
    place.take()
    ((number, _),) = place.asked().items()
    os.write(place.launcher.workers[number].output, b"from C\n")
    place.serve()
    place.launcher.workers[number].say(PRIMED, "", 1)
    place.serve()
    taken, listener = place.take()
    assert number == taken
    assert [b"from C\n"] == listener.told


def test_too_much_output_ends_it(place: Place) -> None:
    """There is an end to what is kept."""
    place.take()
    ((number, _),) = place.asked().items()
    for _ in range(OUTPUT_LIMIT // 1024 + 1):
        os.write(place.launcher.workers[number].output, b"x" * 1024)
        place.serve()
        if number not in place.launcher.workers:
            break
    assert number not in place.launcher.workers


def test_what_is_not_used_any_more_is_ended(place: Place) -> None:
    """After the time of use, its memory is given back."""
    place.take()
    number = place.primed()
    place.pass_time(IN_USE_S + 30)
    assert number not in place.launcher.workers


def test_the_latest_come_first() -> None:
    """With room for one, the module used last has it."""
    place = Place(budget=Budget(1, 256 * MEGABYTE))
    place.take("a")
    first = place.primed()
    place.take("b")
    place.serve()
    assert first not in place.launcher.workers
    assert ["b"] == [frame[2] for frame in place.asked().values()]
    place.launcher.close()


def test_frames_after_the_handing_over_are_the_takers(place: Place) -> None:
    """The one who took it hears what the run says."""
    place.take()
    number = place.primed()
    _, listener = place.take()
    place.launcher.workers[number].say(RESULT, b"x")
    place.serve()
    assert [[RESULT, b"x"]] == listener.told
