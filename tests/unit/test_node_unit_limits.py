# SPDX-License-Identifier: MIT
"""What becomes of an attempt whose worker reached a limit, on a node without processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import COMPLETE, FAILED, UnitFinished
from pydra.errors import LimitExceeded
from pydra.model.instance import Failure
from tests.support.nodes import NodeBench, texts, unit


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


def outcome(bench: NodeBench) -> UnitFinished:
    """The one outcome that the node tells now; a task's failure is told when its worker is gone."""
    bench.clock.advance(0)
    [message] = [message for message in bench.settle() if isinstance(message, UnitFinished)]
    return message


def failure_of(message: UnitFinished) -> Failure:
    """The failure of an outcome that has one."""
    assert FAILED == message.outcome
    assert message.failure is not None
    return message.failure


MEMORY = "memory limit of 256 MiB reached"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "after less than a second"),
        (1, "after 1 second"),
        (119, "after 119 seconds"),
        (63 * 60 + 59, "after 63 minutes"),
        (7200, "after 2 hours"),
        (200_000, "after 2 days"),
    ],
)
def test_a_limit_ends_it_for_good(bench: NodeBench, seconds: float, expected: str) -> None:
    """A limit is the task's failure, no loss, and is said with its figure and the time, in its log too."""
    worker = bench.run()
    bench.advance(seconds)
    worker.exits(WorkerExit(137, "killed by SIGKILL", MEMORY))
    messages = bench.settle()
    assert [f"{MEMORY} {expected}"] == texts(messages)
    assert isinstance(messages[-1], UnitFinished)
    assert (FAILED, Failure("limit", f"{MEMORY} {expected}")) == (messages[-1].outcome, messages[-1].failure)


def test_a_limit_explains_what_the_task_told(bench: NodeBench) -> None:
    """An exception that came of a limit is told with it, and its traceback stays."""
    worker = bench.run()
    bench.advance(130)
    worker.says(frames.FAILED, "failed", "BlockingIOError: try again", "Traceback ...")
    assert [] == bench.settle()
    worker.exits(WorkerExit(137, "killed by SIGKILL", "process limit of 64 reached"))
    failure = failure_of(outcome(bench))
    assert (
        Failure(
            "limit",
            "process limit of 64 reached after 2 minutes (BlockingIOError: try again)",
            "Traceback ...",
        )
        == failure
    )


def test_a_limit_of_a_unit_has_not_the_time_of_its_task(bench: NodeBench) -> None:
    """How long the task had run says nothing of the unit."""
    worker = bench.run()
    bench.advance(5)
    words = "Unit 1/Sub:4 failed: time limit of 1 s reached"
    worker.says(frames.FAILED, "limit", words, "")
    worker.exits(WorkerExit(0, "exited"))
    assert words == failure_of(outcome(bench)).message


def test_a_limit_that_the_task_told_has_its_time(bench: NodeBench) -> None:
    """As that of the kernel which the task itself ran into."""
    worker = bench.run()
    bench.advance(5)
    worker.says(frames.FAILED, "limit", "process limit of 64 reached", "")
    worker.exits(WorkerExit(137, "killed by SIGKILL", "process limit of 64 reached"))
    messages = bench.settle()
    assert isinstance(messages[-1], UnitFinished)
    assert "process limit of 64 reached after 5 seconds" == failure_of(messages[-1]).message
    assert ["process limit of 64 reached after 5 seconds"] == texts(messages)


def test_what_is_too_large_has_no_time(bench: NodeBench) -> None:
    """It was too large from the beginning, whenever that was seen."""
    worker = bench.run()
    bench.advance(5)
    worker.says(frames.FAILED, "limit", "The result is 9.0 MiB packed; the limit is 8 MiB.", "")
    worker.exits(WorkerExit(137, "killed by SIGKILL"))
    assert "The result is 9.0 MiB packed; the limit is 8 MiB." == failure_of(outcome(bench)).message


def test_nothing_counts_between_a_failure_and_the_end(bench: NodeBench) -> None:
    """A worker that failed cannot still have a result."""
    worker = bench.run()
    worker.says(frames.FAILED, "failed", "ValueError: x", "")
    worker.says(frames.RESULT, b"\x05")
    worker.says(frames.FAILED, "failed", "other", "")
    assert "ValueError: x" == failure_of(outcome(bench)).message


def test_a_limit_after_the_result_changes_nothing(bench: NodeBench) -> None:
    """What is complete stays complete."""
    worker = bench.run()
    worker.says(frames.RESULT, b"\x05")
    assert COMPLETE == outcome(bench).outcome
    worker.exits(WorkerExit(137, "killed by SIGKILL", MEMORY))
    assert [] == bench.settle()


def test_more_than_the_node_gives_is_a_failure(bench: NodeBench) -> None:
    """It would be refused again and again."""
    bench.workers.fault = LimitExceeded("The task asks for 99 GiB.")
    [message] = bench.tell(unit())
    assert isinstance(message, UnitFinished)
    assert (FAILED, "limit") == (message.outcome, failure_of(message).code)
