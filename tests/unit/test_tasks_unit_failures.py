# SPDX-License-Identifier: MIT
"""What a failed unit means is for the task to say: the end, a retry, or one of so many."""

from __future__ import annotations

import pytest

from pydra.cluster.interfaces import Answered
from pydra.cluster.tasks.unit_failure import UnitFailed
from pydra.cluster.tasks.unit_loop import (
    FULL_FAILURES,
    LOOK_S,
    UnitLoop,
)
from pydra.errors import TaskError
from tests.support.parallel_tasks import Par, failing, run
from tests.support.scripted_units import ScriptedUnits, all_complete


def test_a_failure_fails_the_task_at_once() -> None:
    """The error has the path, the code and the traceback of the unit; what else runs is forgotten."""
    task = Par()
    units = ScriptedUnits(lambda told: [told.fail("Sub", 0, "limit", "too slow")] if told.outstanding else [])
    loop = UnitLoop(task, units, units.clock)
    with pytest.raises(UnitFailed) as caught:
        loop.run(iter("abc"), None)
    assert (str(caught.value), caught.value.code) == ("Unit 3/Sub:0 (item 'a') failed: too slow", "limit")
    assert "Traceback of the unit" in str(caught.value.__cause__)
    assert task.failed == [("a", "too slow")]
    assert list(task.failures) == [0]
    assert units.outstanding == {}


def test_collect_goes_on_and_keeps_the_failures() -> None:
    """Failures are kept by index, and the task completes."""
    task, _, loop = run(range(10), failing(lambda index: index % 3 == 0), failure_policy="collect")
    assert sorted(task.failures) == [0, 3, 6, 9]
    assert task.failures[3].path == "3/Sub:3"
    assert str(task.failures[3]) == "Unit 3/Sub:3 (item 3) failed: no"
    assert sorted(task.seen) == [1, 2, 4, 5, 7, 8]  # type: ignore[type-var]
    assert (loop.completed, loop.failed) == (6, 4)


def test_only_so_many_failures_are_kept_whole() -> None:
    """A million failures do not fill the memory with text; the first and the latest can be looked at."""
    task, _, _ = run(range(FULL_FAILURES + 5), failing(lambda _: True), failure_policy="collect")
    assert len(task.failures) == FULL_FAILURES + 5
    whole = [index for index, failure in task.failures.items() if failure.traceback and failure.item]
    assert [*range(FULL_FAILURES), FULL_FAILURES + 4] == whole
    assert all(failure.message for failure in task.failures.values())


@pytest.mark.parametrize(
    ("policy", "failed", "total", "fails"),
    [
        (("threshold", 0), 1, 10, True),
        (("threshold", 2), 2, 10, False),
        (("threshold", 2), 3, 10, True),
        (("threshold", 0.2), 2, 10, False),
        (("threshold", 0.2), 3, 10, True),
        (("threshold", 0.2), 2, None, False),
        (("threshold", 0.2), 3, None, True),
        (("threshold", 0.0), 1, None, True),
        (("threshold", 1.0), 10, None, False),
        (["threshold", 1], 1, 10, False),
    ],
)
def test_a_threshold_is_a_number_or_a_share(
    policy: object, failed: int, total: int | None, fails: bool
) -> None:
    """A share of an unknown number is judged at the end."""
    script = failing(lambda index: index < failed)
    if fails:
        with pytest.raises(UnitFailed, match=r"^Unit 3/Sub:(\d) \(item \1\) failed: no($| \(\d)"):
            run(range(10), script, total, failure_policy=policy)
    else:
        assert len(run(range(10), script, total, failure_policy=policy)[0].failures) == failed


@pytest.mark.parametrize(
    "settings",
    [
        {"failure_policy": "never"},
        {"failure_policy": ("threshold", -1)},
        {"failure_policy": ("threshold", 1.5)},
        {"failure_policy": ("threshold", True)},
        {"failure_policy": ("threshold", float("nan"))},
        {"failure_policy": None},
        {"unit_retries": -1},
        {"unit_retries": 1.5},
        {"unit_retries": True},
        {"unit_retry_delay": "1"},
        {"unit_retry_delay": float("inf")},
        {"unit_time_limit": -0.5},
        {"unit_time_limit": float("nan")},
    ],
)
def test_settings_that_are_none_are_refused_before_anything_runs(settings: dict[str, object]) -> None:
    """The error names the setting and what it was."""
    units = ScriptedUnits(all_complete)
    with pytest.raises(TaskError, match=next(iter(settings))):
        UnitLoop(Par(**settings), units, units.clock)


def test_a_failed_unit_is_asked_for_again_later() -> None:
    """Each wait is twice as long as the one before; the hook is called for the last failure only."""
    task, units, _ = run(
        ["a"], failing(lambda _: True), unit_retries=3, unit_retry_delay=0.5, failure_policy="collect"
    )
    times = [when for when, _, _, _ in units.asked]
    assert times == pytest.approx([0, 0.5, 1.5, 3.5], abs=0.01)
    assert task.failed == [("a", "no")]
    assert max(units.waits) <= LOOK_S


def test_a_retry_that_succeeds_is_a_success() -> None:
    """Nothing is left of the failure."""
    tries = {0: 0, 1: 0}

    def script(units: ScriptedUnits) -> list[Answered]:
        found = []
        for branch, index in list(units.outstanding):
            tries[index] += 1
            found.append(
                units.complete(branch, index, index) if tries[index] > 2 else units.fail(branch, index)
            )
        return found

    task, _, loop = run([0, 1], script, unit_retries=2, unit_retry_delay=0)
    assert sorted(task.seen) == [0, 1]  # type: ignore[type-var]
    assert (task.failed, task.failures, tries) == ([], {}, {0: 3, 1: 3})
    assert (loop.completed, loop.failed) == (2, 0)


@pytest.mark.parametrize(
    "code", ["task_not_found", "invalid_parameters", "lost", "worker_died", "wire", "limit"]
)
def test_what_no_retry_changes_is_not_tried_again(code: str) -> None:
    """A missing subtask is missing the next time too, and what killed its workers kills further ones."""
    units = ScriptedUnits(failing(lambda _: True, code=code))
    with pytest.raises(UnitFailed):
        UnitLoop(Par(unit_retries=5), units, units.clock).run(iter("a"), 1)
    assert len(units.asked) == 1


def test_a_time_limit_goes_with_the_units() -> None:
    """Whoever runs them enforces it."""
    _, units, _ = run("ab", unit_time_limit=2.5)
    assert {limit for _, _, _, limit in units.asked} == {2.5}


def test_a_result_that_cannot_be_read_is_a_failed_unit() -> None:
    """The failure policy applies to it."""
    units = ScriptedUnits(lambda _: [("Sub", 0, b"\xc1", None)])
    with pytest.raises(UnitFailed, match=r"Unit 3/Sub:0 \(item 'a'\) failed: Its result cannot be read"):
        UnitLoop(Par(), units, units.clock).run(iter("a"), 1)


@pytest.mark.parametrize("hook", ["work_unit_complete", "work_unit_failed"])
def test_a_hook_that_raises_fails_the_task(hook: str) -> None:
    """What it raises is what the task fails with; the other units are forgotten."""

    def raising(*_: object) -> None:
        raise StopIteration("from the hook")

    task = Par(failure_policy="collect", **{hook: raising})

    def script(units: ScriptedUnits) -> list[Answered]:
        return failing(lambda index: index == 1)(units) if len(units.outstanding) > 1 else []

    units = ScriptedUnits(script)
    with pytest.raises(StopIteration, match="from the hook"):
        UnitLoop(task, units, units.clock).run(iter(range(5)), None)
    assert units.forgotten == ["Sub"]
