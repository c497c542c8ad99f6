# SPDX-License-Identifier: MIT
"""Cancelling instances, and what else changes them, by a controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.master.store_retry import ANSWER_S
from pydra.errors import StoreError
from pydra.model.ids import Attempt, InstanceId
from tests.support.master_commands import CommandsBench
from tests.support.pumps import result_of

FIRST = Attempt(1, 1)
ONE = InstanceId(1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def running(bench: CommandsBench) -> CommandsBench:
    """Instance 1 runs as attempt 1.1."""
    bench.ready()
    assert 1 == bench.queue(n=5)
    return bench


def test_cancelling(running: CommandsBench) -> None:
    """An instance that is being cancelled still runs by its number; its state says more."""
    assert running.call("cancel_task", task_id=1) is True
    [shown] = running.call("list_running")
    assert (1, "cancelling") == (shown["status"], shown["state"])
    assert running.call("cancel_task", task_id=1) is True


def test_cancel_queued(bench: CommandsBench) -> None:
    """A waiting instance is cancelled at once, as often as one likes."""
    bench.queue()
    assert [True, True] == [bench.call("cancel_task", task_id=1) for _ in range(2)]
    result = bench.call("task_result", task_id=1)
    assert (-2, "cancelled", True) == (result["status"], result["state"], result["final"])
    assert result["percent"] == -1


def test_cancel_what_is_not_there(bench: CommandsBench) -> None:
    """What was never there, or has ended otherwise, is not cancelled."""
    bench.ready()
    bench.queue()
    bench.finish(FIRST)
    assert [False, False, False] == [bench.call("cancel_task", task_id=number) for number in (1, 2, -1)]


def test_cancel_too_late(running: CommandsBench) -> None:
    """If the result is being stored, it is too late: the answer waits for it, and is no."""
    running.store.hold()
    running.finish(FIRST)
    asked = running.begin("cancel_task", task_id=1)
    assert not asked.called
    running.store.release()
    assert result_of(asked) is False
    assert "complete" == running.call("task_result", task_id=1)["state"]


@pytest.mark.parametrize("name", ["cancel_task", "pause_task", "resume_task", "kill_worker"])
def test_what_is_asked_while_the_store_refuses(running: CommandsBench, name: str) -> None:
    """After a while it is told that the store is the cause; it is done when the store is back."""
    running.queue()
    running.call("pause_task" if name == "resume_task" else "task_result", task_id=2)
    running.add_nodes(1)
    running.store.refuse("The disk is full.")
    about = {"worker_key": "1_0"} if name == "kill_worker" else {"task_id": 2}
    asked = running.begin(name, **about)
    running.clock.pump([1.0] * int(ANSWER_S - 1))
    assert not asked.called
    running.clock.pump([1.0] * 2)
    with pytest.raises(StoreError, match="as soon as"):
        result_of(asked)
    states = {"cancel_task": "cancelled", "pause_task": "paused", "resume_task": "queued"}
    running.store.accept()
    running.clock.pump([1.0] * 5)
    assert states.get(name, "queued") == running.call("task_result", task_id=2)["state"]
    first = "cancelling" if name == "kill_worker" else "running"
    assert first == running.call("task_result", task_id=1)["state"]


def test_cancel_is_answered_after_its_commit(running: CommandsBench) -> None:
    """Nobody is told of a cancellation that a crash could undo."""
    running.store.hold()
    asked = running.begin("cancel_task", task_id=1)
    assert not asked.called
    running.store.release()
    assert result_of(asked) is True
