# SPDX-License-Identifier: MIT
"""Whatever a task does, its worker answers truthfully, or is seen to be gone."""

from __future__ import annotations

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import FAILED, READY, RESULT, STOPPED
from tests.support.runtimes import Runtime


def run(name: str, args: object = None) -> tuple[Runtime, list[object]]:
    with Runtime() as runtime:
        assert runtime.frame() == [READY]
        runtime.run(f"hostile.hostile_tasks.{name}", args)
        return runtime, runtime.answer()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("Unencodable", "failed", "result['rows'][1]: a value of type object"),
        ("Cyclic", "failed", "nested deeper than"),
        ("DeepRecursion", "failed", "RecursionError"),
        ("EvilText", "failed", "Evil"),
        ("LongMessage", "failed", "ValueError: \\ud800xxx"),
    ],
)
def test_a_result_or_exception_that_cannot_travel_fails_the_run(name: str, code: str, words: str) -> None:
    """The failure names what was wrong, within the limits."""
    _, answer = run(name)
    assert answer[:2] == [FAILED, code]
    assert words in str(answer[2])
    assert len(str(answer[2])) <= 4096
    assert len(str(answer[3]).encode()) <= 64 * 1024


def test_a_large_result_travels() -> None:
    """The worker itself limits a result no more than any payload: the node does."""
    runtime, answer = run("Large", {"mebibytes": 19})
    assert answer[0] == RESULT
    assert isinstance(answer[1], bytes)
    assert [len(answer[1])] == runtime.announced
    assert payload.unpack(answer[1]) == b"x" * 19 * 2**20


def test_a_flood_of_lines_arrives_in_batches_and_in_order() -> None:
    """No line is lost, and there are far fewer frames than lines."""
    runtime, answer = run("Flood", {"lines": 50_000})
    assert answer[0] == RESULT
    assert [str(number) for number in range(50_000)] == [line[3] for line in runtime.lines]
    assert runtime.log_frames < 100


def test_a_task_that_closes_its_output_still_answers() -> None:
    """The lines are lost by its own doing; the result is not."""
    _, answer = run("ClosesOutput")
    assert answer == [RESULT, payload.pack("closed")]


@pytest.mark.parametrize("name", ["ClosesDescriptors", "KillsItself", "LeavesAtOnce"])
def test_a_worker_that_lost_its_channel_or_life_is_gone(name: str) -> None:
    """There is no answer, and the process ends by itself."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run(f"hostile.hostile_tasks.{name}")
        assert list(runtime.frames()) == []
        assert runtime.process.wait(90) != 0


def test_a_worker_ends_with_its_channel() -> None:
    """A daemon that is gone takes the worker with it, also one that ignores its stop flag."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("hostile.hostile_tasks.IgnoresStop")
        runtime.frame()
        runtime.stop()
        runtime.close()
        assert runtime.process.wait(90) == 1


def test_a_warm_worker_ends_with_its_channel() -> None:
    """One that was never used ends well."""
    with Runtime() as runtime:
        assert runtime.frame() == [READY]
        runtime.close()
        assert runtime.process.wait(90) == 0


def test_bytes_that_are_no_frame_end_the_worker() -> None:
    """A worker does not guess what its daemon means."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.send_bytes(b"\xff\xff\xff\xff")
        assert runtime.process.wait(90) != 0


def test_a_stop_that_fails_is_told_and_still_sets_the_flag() -> None:
    """An author's own stop() cannot prevent the stop."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("hostile.hostile_tasks.FailsToStop")
        runtime.frame()
        runtime.stop()
        assert runtime.answer() == [STOPPED]
    told = [line[3] for line in runtime.lines]  # none if the task ended first
    assert told in ([], ["The task could not be told to stop: RuntimeError: no"])


def test_a_progress_that_fails_is_told_once() -> None:
    """The run goes on, and is asked again."""
    runtime, answer = run("BadProgress")
    assert answer == [RESULT, payload.pack("done")]
    assert ["The progress of the task cannot be told: ZeroDivisionError: progress"] == [
        line[3] for line in runtime.lines
    ]


def test_lines_printed_by_a_signal_handler_break_no_frame() -> None:
    """Writing may be interrupted anywhere, and everything is still whole frames."""
    runtime, answer = run("PrintsInSignal")
    assert answer == [RESULT, payload.pack("done")]
    assert sum(1 for line in runtime.lines if str(line[3]).startswith("line")) >= 19_000
