# SPDX-License-Identifier: MIT
"""The loop of a parallel task draws no more than it may hold, and settles each unit once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pydra.cluster.interfaces import Answered
from pydra.cluster.tasks.unit_failure import DatasourceFailed
from pydra.cluster.tasks.unit_loop import (
    ASK_AFTER_S,
    ITEM_LIMIT,
    LOOK_S,
    SLICE,
    WINDOW_BYTES,
    WINDOW_UNITS,
    UnitLoop,
)
from pydra.errors import TaskCancelled
from tests.support.parallel_tasks import Par, run
from tests.support.scripted_units import ScriptedUnits, all_complete


def test_each_item_is_a_unit_of_the_next_index() -> None:
    """Indexes begin at 0, and each result comes with its own item, whatever the order."""
    task, units, loop = run("abcdefghij")
    assert sorted(index for _, _, indexes, _ in units.asked for index in indexes) == list(range(10))
    assert {branch for _, branch, _, _ in units.asked} == {"Sub"}
    assert sorted(task.seen) == list("abcdefghij")  # type: ignore[type-var]
    assert (loop.completed, loop.failed, loop.running) == (10, 0, 0)


@pytest.mark.parametrize("items", [[], [0], [None], [0, "", None, False, [], {}, 0.0, b""]])
def test_few_and_falsy_items_are_items(items: list[object]) -> None:
    """An empty datasource ends at once, and nothing is taken for the end of one."""
    task, units, _ = run(items)
    assert sorted(map(repr, items)) == sorted(map(repr, task.seen))
    assert units.forgotten == []


def test_of_a_million_items_few_are_held_together() -> None:
    """No more are drawn than fit in the window, however late the answers come."""
    drawn = settled = 0

    def numbers() -> Iterator[int]:
        nonlocal drawn
        while drawn < 1_000_000:
            drawn += 1
            yield drawn

    def script(units: ScriptedUnits) -> Sequence[Answered]:
        nonlocal settled
        assert drawn - settled <= WINDOW_UNITS
        if units.waits[-1] == 0.0:
            return []
        first = list(units.outstanding)[:1000]
        settled += len(first)
        if settled > 20_000:
            loop_task.stop()
        return [units.complete(branch, index, index + 1) for branch, index in first]

    loop_task, units = Par(), ScriptedUnits(script)
    assert not UnitLoop(loop_task, units, units.clock).run(numbers(), None)
    assert units.most == WINDOW_UNITS
    assert max(len(indexes) for _, _, indexes, _ in units.asked) == SLICE


def test_large_items_fill_the_window_sooner() -> None:
    """Bytes count as well; the item that does not fit waits until it does."""
    item = "x" * (5 * 1024 * 1024)
    task, units, _ = run([item] * 20)
    assert len(task.seen) == 20
    assert WINDOW_BYTES - len(item) < units.most_bytes <= WINDOW_BYTES


def test_an_item_of_the_greatest_size_is_sent() -> None:
    """One more byte is not."""
    task, _, _ = run([b"x" * (ITEM_LIMIT - 11)])
    assert len(task.seen) == 1
    with pytest.raises(DatasourceFailed, match=r"Item 1 of the datasource is 8\.0 MiB packed"):
        run([0, b"x" * (ITEM_LIMIT - 10)])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (object(), r"args\['data'\]: a value of type object"),
        ({"a": [1, object()]}, r"args\['data'\]\['a'\]\[1\]: a value of type object"),
        pytest.param(2**70000, r"args\['data'\]: an integer of 70001 bits", id="integer"),
        pytest.param("\ud800", r"args\['data'\]: text with half of a surrogate pair", id="text"),
    ],
)
def test_an_item_that_cannot_travel_is_named_by_its_index(item: object, words: str) -> None:
    """The task fails, and what was asked for before is forgotten."""
    units = ScriptedUnits(lambda _: [])
    loop = UnitLoop(Par(), units, units.clock)
    with pytest.raises(DatasourceFailed, match=f"Item 2 of the datasource cannot be sent: {words}"):
        loop.run(iter([0, 1, item]), 3)
    assert units.forgotten == ["Sub"]


def test_a_datasource_that_raises_fails_the_task() -> None:
    """The failure says at which item, and has the datasource's own exception as its cause."""

    def broken() -> Iterator[int]:
        yield from range(700)
        raise ValueError("the disk is gone")

    units = ScriptedUnits(lambda _: [])
    loop = UnitLoop(Par(), units, units.clock)
    with pytest.raises(DatasourceFailed) as caught:
        loop.run(broken(), None)
    assert str(caught.value) == "The datasource failed at item 700: ValueError: the disk is gone"
    assert isinstance(caught.value.__cause__, ValueError)
    assert units.forgotten == ["Sub"]
    assert loop.running == 0


def test_a_type_error_of_a_datasource_is_no_word_about_arguments() -> None:
    """It is told as what it is, with the code of a failure."""
    with pytest.raises(DatasourceFailed, match=r"failed at item 1: TypeError: .* 'NoneType'") as caught:
        run(map(int, ["0", None]))
    assert caught.value.code == "failed"


def test_a_stop_iteration_inside_a_generator_is_a_failure() -> None:
    """It does not leak out as the end of the datasource."""

    def leaking() -> Iterator[int]:
        yield 0
        yield next(iter(()))

    with pytest.raises(DatasourceFailed, match="failed at item 1: RuntimeError"):
        run(leaking())


def test_the_first_items_of_a_slow_datasource_do_not_wait() -> None:
    """Each is asked for before the next one is drawn."""
    units = ScriptedUnits(all_complete)

    def slow() -> Iterator[int]:
        for number in range(5):
            units.now += 1.0
            yield number

    assert UnitLoop(Par(), units, units.clock).run(slow(), None)
    assert [(when, indexes) for when, _, indexes, _ in units.asked] == [(n + 1.0, [n]) for n in range(5)]


def test_a_slice_is_asked_for_when_it_took_long_enough() -> None:
    """What was drawn waits no longer than a few milliseconds for company."""
    units = ScriptedUnits(all_complete)

    def steady() -> Iterator[int]:
        for number in range(2000):
            units.now += ASK_AFTER_S / 10
            yield number

    assert UnitLoop(Par(), units, units.clock).run(steady(), None)
    assert max(len(indexes) for _, _, indexes, _ in units.asked) <= 12


def test_nothing_waits_while_there_is_more_to_draw() -> None:
    """Answers are taken between slices without a pause, and waited for when the window is full."""
    full: list[bool] = []

    def script(units: ScriptedUnits) -> list[Answered]:
        full.append(len(units.outstanding) == WINDOW_UNITS)
        return all_complete(units) if full[-1] else []

    units = ScriptedUnits(script)
    UnitLoop(Par(), units, units.clock).run(iter(range(WINDOW_UNITS)), None)
    assert units.waits == [LOOK_S if each else 0.0 for each in full]


def test_answers_that_nobody_awaits_are_passed_over() -> None:
    """A second answer, one of another branch and one of an unknown index call no hook."""

    def script(units: ScriptedUnits) -> list[Answered]:
        found = all_complete(units)
        strange: list[Answered] = [("Other", 0, b"\xc0", None), ("Sub", 99, b"\xc0", None)]
        return [*strange, *found, *found, *strange]

    task, _, loop = run(range(3), script)
    assert sorted(task.seen) == [0, 1, 2]  # type: ignore[type-var]
    assert loop.completed == 3


def test_a_stop_ends_the_loop_between_two_hooks() -> None:
    """No further hook is called, and no unit is awaited."""

    class Stopping(Par):
        def work_unit_complete(self, data: object, results: object) -> None:
            super().work_unit_complete(data, results)
            self.stop()

    task, units = Stopping(), ScriptedUnits(all_complete)
    units.script = lambda told: all_complete(told) if len(told.outstanding) >= 2 else []
    assert not UnitLoop(task, units, units.clock).run(iter(range(10)), None)
    assert len(task.seen) == 1


def test_a_stop_is_seen_while_nothing_comes() -> None:
    """The loop looks at the flag several times a second."""
    task = Par()

    def script(units: ScriptedUnits) -> list[Answered]:
        if units.now > 3:
            task.STOP_FLAG = True
        return []

    units = ScriptedUnits(script)
    assert not UnitLoop(task, units, units.clock).run(iter("a"), 1)
    assert units.forgotten == ["Sub"]
    assert max(units.waits) <= 0.2


def test_a_cancel_that_units_tell_goes_through() -> None:
    """Even if they cannot be forgotten any more."""

    class Cancelled(ScriptedUnits):
        def answers(self, timeout: float | None = None) -> Sequence[Answered]:
            raise TaskCancelled

        def forget(self, branch: str) -> None:
            raise TaskCancelled

    units = Cancelled(all_complete)
    with pytest.raises(TaskCancelled):
        UnitLoop(Par(), units, units.clock).run(iter("ab"), None)


def test_an_endless_datasource_ends_when_it_is_stopped() -> None:
    """What was drawn is still run."""

    class Enough(Par):
        def work_unit_complete(self, data: object, results: object) -> None:
            super().work_unit_complete(data, results)
            if data == 100:
                self.stop_datasource()

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    task, units = Enough(), ScriptedUnits(all_complete)
    loop = UnitLoop(task, units, units.clock)
    assert loop.run(endless(), None)
    asked = [index for _, _, indexes, _ in units.asked for index in indexes]
    assert sorted(task.seen) == asked == list(range(len(asked)))  # type: ignore[type-var]
    assert len(asked) <= 100 + 2 * SLICE


@pytest.mark.parametrize(
    ("total", "percents"), [(4, [0, 25, 50, 75]), (None, [0, 25, 50, 75]), (2, [0, 50, 100, 100])]
)
def test_progress_counts_what_ended(total: int | None, percents: list[int]) -> None:
    """Of all items if their number is known, else of those that were drawn; failed ones have ended too."""
    told: list[Any] = []

    def script(units: ScriptedUnits) -> list[Answered]:
        if len(units.outstanding) + loop.completed < 4:
            return []
        told.append((loop.progress(), loop.message()))
        branch, index = next(iter(units.outstanding))
        return [units.complete(branch, index, "x")]

    units = ScriptedUnits(script)
    loop = UnitLoop(Par(), units, units.clock)
    assert loop.run(iter("xxxx"), total)
    assert [percent for percent, _ in told] == percents
    assert told[1][1] == "1 done, 3 under way, 0 failed"


def test_failed_units_have_ended() -> None:
    """Of an unknown number of items too."""
    loop = UnitLoop(Par(), ScriptedUnits(lambda units: []), float)
    assert loop.progress() == 0
    loop.completed, loop.failed = 1, 3
    assert loop.progress() == 100
    loop._flight = {4: (None, b""), 5: (None, b""), 6: (None, b""), 7: (None, b"")}
    assert loop.progress() == 50
