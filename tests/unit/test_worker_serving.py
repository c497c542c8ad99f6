# SPDX-License-Identifier: MIT
"""A hired worker runs the units of its batches in order, and tells what came of each."""

from __future__ import annotations

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import DONE, FAILED, LOG, PART, READY, STOPPED
from tests.support.runtimes import Runtime

ROOT = "hired.hired_tasks.Root"
ENDS = "3.Ends"


def hired(runtime: Runtime, task_key: str = ROOT, package: str = "") -> Runtime:
    """The same worker, hired and ready."""
    assert [READY] == runtime.frame()
    runtime.serve(task_key, package)
    assert [READY] == runtime.frame()
    return runtime


def done(runtime: Runtime, count: int) -> tuple[list[object], dict[int, list[str]]]:
    """
    What came of the next ``count`` units: the value of each, and the failures by position.

    The frames of one batch join without a gap; lines are kept in ``runtime.lines``, with their labels.
    """
    values: list[object] = []
    failures: dict[int, list[str]] = {}
    parts = b""
    while len(values) < count:
        frame = runtime.frame()
        assert frame is not None, runtime.output()
        if frame[0] == PART:
            assert isinstance(frame[1], bytes)
            parts += frame[1]
            continue
        if frame[0] == LOG:
            assert isinstance(frame[1], list)
            runtime.lines += [[*line[1:], *frame[2:]] for line in frame[1]]
            continue
        kind, _, start, results, failed, busy_s = frame
        assert (DONE, len(values)) == (kind, start)
        assert isinstance(results, list)
        assert isinstance(failed, dict)
        assert isinstance(busy_s, float)
        assert busy_s >= 0
        results[0] = parts + results[0]
        parts = b""
        failures |= {len(values) + position: failure for position, failure in failed.items()}
        values += [payload.unpack(result) if result else None for result in results]
    assert len(values) == count
    return values, failures


def failure(how: object) -> list[str]:
    """How one unit of ``Ends`` failed; the unit after it is complete."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", ENDS, {0: {"how": how}, 1: {"how": "well"}})
        values, failures = done(runtime, 2)
    assert [None, "well"] == values
    assert [0] == list(failures)
    return failures[0]


def test_batches_are_run_in_order() -> None:
    """One after another, of any branch, each result at the place of its unit."""
    with Runtime() as runtime:
        hired(runtime)
        runtime.units("1.3", "1.Echo", {index: {"value": index} for index in range(500)})
        runtime.units("1.4", "2.Used", {3: {}, 9: {}})
        assert (list(range(500)), {}) == done(runtime, 500)
        assert ([4, 4], {}) == done(runtime, 2)


def test_the_last_of_a_batch_goes_at_once_with_all_before_it() -> None:
    """A short batch is answered by one frame, which names it."""
    with Runtime() as runtime:
        hired(runtime).units("7.9", "1.Echo", {index: {} for index in range(3)})
        frame = runtime.frame()
    assert frame is not None
    assert [DONE, "7.9", 0, [payload.pack(None)] * 3, {}] == frame[:5]


def test_results_do_not_wait_for_a_long_unit() -> None:
    """What is done goes out while the next unit runs."""
    with Runtime() as runtime:
        args: dict[int, object] = {index: {"seconds": 0 if index < 2 else 60} for index in range(3)}
        hired(runtime).units("1.3", "6.Long", args)
        assert (["done", "done"], {}) == done(runtime, 2)


def test_long_arguments_and_results_travel_in_parts() -> None:
    """Alone, between others."""
    long = "x" * 3_000_000
    with Runtime() as runtime:
        hired(runtime).units("1.3", "1.Echo", {0: {"value": 1}})
        runtime.units("1.4", "1.Echo", {1: {"value": long}})
        runtime.units("1.5", "1.Echo", {2: {"value": 3}})
        assert [[1], [long], [3]] == [done(runtime, 1)[0] for _ in range(3)]


def test_large_results_make_several_frames() -> None:
    """None of them is above the limit of frames."""
    values = ["y" * size for size in (200_000, 10, 500_000, 100_000, 600_000, 300_000, 1)]
    with Runtime() as runtime:
        hired(runtime).units("1.3", "1.Echo", {0: {"value": 0}})
        done(runtime, 1)
        for number, value in enumerate(values):
            runtime.units(f"1.{number}", "1.Echo", {number: {"value": value}})
        assert values == [done(runtime, 1)[0][0] for _ in values]


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("raises", "failed", "ValueError: no luck"),
        ("exits", "failed", "sys.exit(4)"),
        ("interrupted", "failed", "KeyboardInterrupt"),
        ("memory", "failed", "MemoryError"),
        ("unencodable", "failed", "result: a value of type object"),
        ("large", "limit", "The result is 9.0 MiB packed; the limit is 8 MiB"),
    ],
)
def test_a_unit_that_fails_fails_alone(how: str, code: str, words: str) -> None:
    """With the same code and words as a root; the next unit runs."""
    failed = failure(how)
    assert code == failed[0]
    assert words in failed[1]


def test_a_failure_has_the_frames_of_its_author() -> None:
    """And none of ours."""
    traceback = failure("raises")[2]
    assert "hired_tasks.py" in traceback
    assert "pydra/cluster" not in traceback


def test_many_long_failures_make_several_frames() -> None:
    """A traceback each, which together are above the limit of frames."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", ENDS, {index: {"how": "raises much"} for index in range(500)})
        values, failures = done(runtime, 500)
    assert [None] * 500 == values
    assert list(range(500)) == list(failures)
    assert {4096} == {len(message) for _, message, _ in failures.values()}


def test_arguments_that_are_no_map_are_refused() -> None:
    """Without a run."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", "1.Echo", {0: [1], 1: {"value": 2}})
        values, failures = done(runtime, 2)
    assert [None, 2] == values
    assert "invalid_parameters" == failures[0][0]


@pytest.mark.parametrize(
    ("branch", "code", "words"),
    [
        ("77.Echo", "task_not_found", "Root has no subtask number '77'"),
        ("1.Other", "task_not_found", "no subtask 'Other'"),
        ("1.Echo:4/Deeper", "task_not_found", "has no subtasks"),
        ("", "task_not_found", "no subtask"),
    ],
)
def test_units_of_a_subtask_that_does_not_exist_fail(branch: str, code: str, words: str) -> None:
    """Each of them, and clearly; other branches do not suffer."""
    with Runtime() as runtime:
        hired(runtime)
        for batch in ("1.3", "1.4"):
            runtime.units(batch, branch, {0: {}, 1: {}})
            values, failures = done(runtime, 2)
            assert [None, None] == values
            assert [code, code] == [failed[0] for failed in failures.values()]
            assert words in failures[1][1]
        runtime.units("1.5", "1.Echo", {0: {"value": 1}})
        assert [1] == done(runtime, 1)[0]


def test_a_task_that_cannot_be_made_again_fails_its_units() -> None:
    """With what its constructor raised."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", "7.CannotBeMadeAgain", {0: {}, 1: {}})
        _, failures = done(runtime, 2)
    assert [0, 1] == list(failures)
    assert failures[0][0] == "load"
    assert failures[0][1] == "Root.7.CannotBeMadeAgain cannot be made: OSError: only once"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("hired.hired_tasks.Absent", "no class 'Absent'"),
        ("failing.fail_tasks.CannotBeMade", "cannot be made: OSError: no such luck"),
        ("broken.exits.Task", "it called sys.exit('leaving')"),
    ],
)
def test_a_root_that_cannot_be_loaded_ends_the_worker(key: str, words: str) -> None:
    """It says why, once, and is gone."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.serve(key)
        kind, code, message, _ = runtime.answer()
        assert (FAILED, "load") == (kind, code)
        assert words in str(message)
        assert runtime.frame() is None
        assert 0 == runtime.process.wait(90)


def test_lines_carry_their_unit_and_come_before_its_result() -> None:
    """Also one without an end, and those of logging."""
    with Runtime() as runtime:
        hired(runtime)
        args: dict[int, object] = {4: {"lines": ["a", "b"]}, 5: {"lines": []}, 6: {"lines": ["c"]}}
        runtime.units("1.3", "4.Prints", args)
        done(runtime, 3)
    label = ["4.Prints"]
    assert [
        ["INFO", "stdout", "a", *label, 4],
        ["INFO", "stdout", "b", *label, 4],
        ["INFO", "log", "logged", *label, 4],
        ["ERROR", "stderr", "open", *label, 4],
        ["ERROR", "stderr", "open", *label, 5],
        ["INFO", "stdout", "c", *label, 6],
        ["INFO", "log", "logged", *label, 6],
        ["ERROR", "stderr", "open", *label, 6],
    ] == runtime.lines


def test_a_flood_of_lines_of_a_unit_is_not_lost() -> None:
    """In order, and in far fewer frames than lines."""
    lines = [str(number) for number in range(20_000)]
    with Runtime() as runtime:
        hired(runtime).units("1.3", "4.Prints", {0: {"lines": lines}})
        done(runtime, 1)
    assert lines == [line[2] for line in runtime.lines if line[1] == "stdout"]


def test_a_stop_ends_the_worker_after_the_results_that_it_has() -> None:
    """The running unit and those after it have none."""
    with Runtime() as runtime:
        args: dict[int, object] = {index: {"seconds": 0 if index < 2 else 60} for index in range(4)}
        hired(runtime).units("1.3", "6.Long", args)
        done(runtime, 2)
        runtime.stop()
        assert [[STOPPED]] == list(runtime.frames())
        assert 0 == runtime.process.wait(90)


def test_a_stop_ends_a_worker_that_has_nothing_to_do() -> None:
    """At once."""
    with Runtime() as runtime:
        hired(runtime).stop()
        assert [[STOPPED]] == list(runtime.frames())


def test_a_unit_that_kills_its_worker_takes_only_itself_along() -> None:
    """The results before it were told, if it gave them the time, and the process is gone."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", "1.Echo", {0: {"value": 1}})
        runtime.units("1.4", ENDS, {0: {"how": "dies"}})
        assert [1] == done(runtime, 1)[0]
        assert [] == list(runtime.frames())
        assert 5 == runtime.process.wait(90)


def test_a_worker_ends_with_its_channel() -> None:
    """In the middle of a unit too."""
    with Runtime() as runtime:
        hired(runtime).units("1.3", "6.Long", {0: {"seconds": 60}})
        runtime.close()
        assert 1 == runtime.process.wait(90)


def test_a_fork_of_a_unit_answers_nothing_and_runs_no_other() -> None:
    """One result for each unit."""
    with Runtime() as runtime:
        args: dict[int, object] = {0: {"how": "forks"}, 1: {"how": "well"}, 2: {"how": "forks"}}
        hired(runtime).units("1.3", ENDS, args)
        assert (["parent", "well", "parent"], {}) == done(runtime, 3)
        runtime.units("1.4", ENDS, {0: {"how": "well"}})
        assert ["well"] == done(runtime, 1)[0]
        runtime.stop()
        assert [[STOPPED]] == list(runtime.frames())


def test_in_a_session_a_branch_begins_with_a_task_key() -> None:
    """There is no root but those that the units name."""
    with Runtime() as runtime:
        hired(runtime, "pydra.session", "hired")
        runtime.units("1.3", "hired.hired_tasks.Echo", {0: {"value": 1}})
        runtime.units("1.4", f"{ROOT}:3/2.Used", {0: {}})
        assert [[1], [4]] == [done(runtime, 1)[0] for _ in range(2)]
        for number, key in enumerate(("hired.hired_tasks.Absent", "plain.plain_tasks.Value", "nothing")):
            runtime.units(f"2.{number}", key, {0: {}})
            assert "load" == done(runtime, 1)[1][0][0]


def test_units_that_come_one_by_one() -> None:
    """Each is run when it comes, between long ones too, whose stop or end is noticed all the same."""
    with Runtime() as runtime:
        hired(runtime)
        for number in range(60):
            if number % 20 == 10:
                runtime.units(f"1.{number}", "6.Long", {number: {"seconds": 0.05}})
                assert (["done"], {}) == done(runtime, 1)
            runtime.units(f"2.{number}", "1.Echo", {number: {"value": number}})
            assert ([number], {}) == done(runtime, 1)
        runtime.units("3.1", "6.Long", {1: {"seconds": 60}})
        runtime.close()
        assert 1 == runtime.process.wait(90)
