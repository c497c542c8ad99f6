# SPDX-License-Identifier: MIT
"""What is told of an instance that waits; and pausing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.scheduler import inputs
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.cluster.wire.messages import COMPLETE, FAILED
from pydra.errors import Conflict, NotFound
from pydra.model.changes import MarkPaused
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import Failure
from pydra.model.status import Status
from pydra.model.unit import DIGEST_SIZE
from tests.support.master_commands import PLAIN, CommandsBench

ONE = InstanceId(1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster with one connected node of two slots."""
    bench = CommandsBench(tmp_path)
    bench.add_nodes(2)
    bench.connect(slots=2)
    yield bench
    bench.close()


def submit(bench: CommandsBench, **options: object) -> int:
    """The id of a new instance."""
    number: int = bench.call("queue_task", task_key=PLAIN, options=options)["instance_id"]
    return number


def test_what_waits_is_explained(bench: CommandsBench) -> None:
    """Its options, what runs before it, and each node with its address."""
    bench.queue()
    number = submit(bench, labels="ssd", after=1)
    bench.finish(Attempt(1, 1))
    found = bench.call("explain", task_id=number)
    assert {
        "id": number,
        "task_key": PLAIN,
        "status": 0,
        "state": "queued",
        "final": False,
        "text": "It waits: no ready node meets what it asks for.",
        "ahead": 0,
        "retry_in": None,
        "options": {
            "labels": ["ssd"],
            "after": {"instances": [1], "mode": "all", "success": True, "failure": False},
        },
        "dependencies": [{"kind": "after", "id": 1, "state": "complete", "met": True}],
        "nodes": [{"id": 1, "host": "node1", "port": 11890, "reason": "lacks the label ssd"}],
        "units": None,
    } == found


def test_what_runs_or_ended_is_explained(bench: CommandsBench) -> None:
    """Where it is, or how it ended; whoever never was is not found."""
    for _ in range(3):
        bench.queue()
    assert "It is on node 1, slot 0, as attempt 1.1." == bench.call("explain", task_id=1)["text"]
    bench.finish(Attempt(1, 1))
    bench.finish(Attempt(1, 2), FAILED, None, Failure("failed", "ValueError: no"))
    bench.call("cancel_task", task_id=3)
    texts = [bench.call("explain", task_id=number)["text"] for number in (1, 2)]
    assert ["It is complete.", "It failed: ValueError: no"] == texts
    assert [True, True] == [bench.call("explain", task_id=number)["final"] for number in (1, 2)]
    with pytest.raises(NotFound):
        bench.call("explain", task_id=99)


def test_a_retry_is_explained(bench: CommandsBench) -> None:
    """With the failure, which the instance shows as well, and when it begins."""
    number = submit(bench, retries=2, retry_delay=8)
    bench.finish(Attempt(1, 1), FAILED, None, Failure("failed", "ValueError: no", "Traceback"))
    bench.clock.advance(3)
    found = bench.call("explain", task_id=number)
    words = "It failed, and rests before retry 1 of 2. It begins in 5 s. The failure was: ValueError: no"
    assert (words, 5.0, "queued") == (found["text"], found["retry_in"], found["state"])
    shown = bench.call("task_result", task_id=number)
    assert ("queued", "ValueError: no", "Traceback") == (shown["state"], shown["error"], shown["traceback"])
    bench.clock.advance(5)
    again = bench.stored(number)
    assert (Status.RUNNING, None, Attempt(1, 2), 1) == (
        again.status,
        again.failure,
        again.attempt,
        again.retried,
    )
    bench.finish(Attempt(1, 2), COMPLETE)
    assert Status.COMPLETE is bench.stored(number).status


def test_a_removed_node_is_said_to_be(bench: CommandsBench) -> None:
    """What follows to it waits, and is told."""
    bench.queue()
    bench.finish(Attempt(1, 1))
    number = submit(bench, follow=1)
    bench.finish(Attempt(1, 2))
    bench.dispatcher.feed(inputs.NodeSilent(bench.roster.nodes()[0].id))
    number = submit(bench, follow=1)
    bench.result(bench.roster.load([]))
    reasons = [node["reason"] for node in bench.call("explain", task_id=number)["nodes"]]
    assert ["was removed from the cluster"] == reasons


def test_units_are_explained(bench: CommandsBench) -> None:
    """How many wait and run."""
    bench.queue()
    args = [b"\x80"] * 40
    bench.dispatcher.feed(
        UnitsAsked(ONE, Attempt(1, 1), "Sub", list(range(40)), args, bytes(40 * DIGEST_SIZE))
    )
    found = bench.call("explain", task_id=1)
    assert 40 == found["units"]["queued"] + found["units"]["running"]
    assert "units wait for its 2 workers" in found["text"]


def test_what_waits_can_be_paused(bench: CommandsBench) -> None:
    """It is stored, a second time is no news, and resumed it waits again."""
    for _ in range(3):
        bench.queue()
    assert [True, True] == [bench.call("pause_task", task_id=3) for _ in range(2)]
    assert [MarkPaused(InstanceId(3), True)] == bench.store.committed[-1:]
    assert (2, "paused") == tuple(bench.call("explain", task_id=3)[name] for name in ("status", "state"))
    assert bench.call("resume_task", task_id=3)
    assert Status.QUEUED is bench.stored(3).status


def test_what_cannot_be_paused_says_why(bench: CommandsBench) -> None:
    """A plain task that runs, what ends, and what has ended; and what is not paused cannot be resumed."""
    for _ in range(3):
        bench.queue()
    with pytest.raises(Conflict, match="runs, and has asked for no units yet; what waits can be paused"):
        bench.call("pause_task", task_id=1)
    bench.call("cancel_task", task_id=1)
    with pytest.raises(Conflict, match="instance 1 cannot be paused: it is being cancelled"):
        bench.call("pause_task", task_id=1)
    bench.finish(Attempt(1, 1))
    with pytest.raises(Conflict, match="instance 1 cannot be paused: it was cancelled"):
        bench.call("pause_task", task_id=1)
    with pytest.raises(Conflict, match="instance 2 is not paused: it runs"):
        bench.call("resume_task", task_id=2)
    for name in ("pause_task", "resume_task"):
        with pytest.raises(NotFound):
            bench.call(name, task_id=99)


def test_what_asked_for_units_can_be_paused(bench: CommandsBench) -> None:
    """Its status is stored and shown."""
    bench.queue()
    digests = bytes(DIGEST_SIZE)
    bench.dispatcher.feed(UnitsAsked(ONE, Attempt(1, 1), "Sub", [0], [b"\x80"], digests))
    assert bench.call("pause_task", task_id=1)
    assert Status.PAUSED is bench.stored(1).status
    assert "It is paused on node 1" in bench.call("explain", task_id=1)["text"]
    assert bench.call("resume_task", task_id=1)
    assert Status.RUNNING is bench.stored(1).status
