# SPDX-License-Identifier: MIT
"""What a controller learns of instances."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.master.commands.objects import LISTED
from pydra.cluster.scheduler import inputs
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.cluster.wire.messages import FAILED, UnitProgress, UnitsDone
from pydra.errors import NotFound, StoreError
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure, Payload
from pydra.model.status import Status
from tests.support.instances import VERSION, queued_instance
from tests.support.master_commands import PLAIN, CommandsBench, packed
from tests.support.pumps import result_of

FIRST = Attempt(1, 1)
ONE = InstanceId(1)
QUEUED = {
    "id": 1,
    "task_key": PLAIN,
    "status": 0,
    "state": "queued",
    "args": '{"n": 5}',
    "queued": "2023-11-14 22:13:20",
    "started": None,
    "completed": None,
    "worker": None,
    "version": VERSION,
    "progress": 0,
    "message": None,
    "results": None,
    "size": None,
    "error": None,
    "error_code": None,
}


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


def test_queued(bench: CommandsBench) -> None:
    """A waiting instance is shown whole."""
    bench.queue(n=5)
    assert [QUEUED] == bench.call("list_queue")
    assert [] == bench.call("list_running")
    assert {"1": {"s": 0}} == bench.call("task_statuses")


def test_about_to_run(bench: CommandsBench) -> None:
    """What has a worker is listed as running when that is stored, as its status says."""
    bench.queue(n=5)
    bench.store.hold()
    bench.ready()
    assert [] == bench.call("list_running")
    assert {"1": {"s": 0}} == bench.call("task_statuses")
    bench.store.release()
    assert [1] == [each["id"] for each in bench.call("list_running")]
    assert 1 == bench.call("task_statuses")["1"]["s"]


def test_running(running: CommandsBench) -> None:
    """A running one is in the queue and among the running, with its start and worker."""
    shown = QUEUED | {
        "status": 1,
        "state": "running",
        "started": "2023-11-14 22:13:20",
        "worker": "node1:11890:0",
    }
    assert [shown] == running.call("list_running")
    assert [shown] == running.call("list_queue")
    assert {"1": {"s": 1, "t": 1_700_000_000.0, "p": 0}} == running.call("task_statuses")


def test_order(running: CommandsBench) -> None:
    """First what runs, then what waits in the order in which it will run."""
    running.queue()
    running.clock.advance(1)
    running.queue()
    running.submit(9, priority=1)
    assert [1, 9, 2, 3] == [each["id"] for each in running.call("list_queue")]


@pytest.mark.parametrize(
    ("limit", "skip", "listed"),
    [(2, 0, [1, 2]), (1, 1, [2]), (500, 2, [3]), (5, 3, []), (500, 10**400, [])],
)
def test_some_of_the_queue(running: CommandsBench, limit: int, skip: int, listed: list[int]) -> None:
    """At most so many of the same order, after so many."""
    running.queue()
    running.clock.advance(1)
    running.queue()
    assert listed == [each["id"] for each in running.call("list_queue", limit=limit, skip=skip)]
    assert listed == [int(number) for number in running.call("task_statuses", limit=limit, skip=skip)]


def test_paused(running: CommandsBench) -> None:
    """What is paused while it waits is shown, after what waits."""
    running.queue()
    running.clock.advance(1)
    running.queue()
    running.call("pause_task", task_id=2)
    shown = running.call("list_queue")
    assert [(1, "running"), (3, "queued"), (2, "paused")] == [(each["id"], each["state"]) for each in shown]
    assert {"queued": 1, "running": 1, "paused": 1} == running.call("cluster_info")["instances"]


def test_progress(running: CommandsBench) -> None:
    """Progress is shown with its message."""
    running.dispatcher.unit_progressed(NodeId(1), UnitProgress(FIRST, ONE, 40, "almost"))
    [shown] = running.call("list_running")
    assert (40, "almost") == (shown["progress"], shown["message"])
    assert {"s": 1, "t": 1_700_000_000.0, "p": 40, "m": "almost"} == running.call("task_statuses")["1"]
    running.dispatcher.unit_progressed(NodeId(1), UnitProgress(FIRST, ONE, -1, None))
    assert {"s": 1, "t": 1_700_000_000.0, "p": -1} == running.call("task_statuses")["1"]


def test_recent(running: CommandsBench) -> None:
    """The newest instances, whatever their status, newest first, as they stand now."""
    for _ in range(3):
        running.queue()
    running.finish(FIRST, result=Payload(1, b"\x07"))
    recent = running.call("list_recent", limit=3)
    assert [(4, "queued"), (3, "queued"), (2, "running")] == [(each["id"], each["state"]) for each in recent]
    last = running.call("list_recent")[-1]
    assert (3, 7, 100) == (last["status"], last["results"], last["progress"])


def test_result(running: CommandsBench) -> None:
    """A complete instance has its result, as JSON."""
    data = packed({"a": [1, 2.5, None], "b": b"x"})
    running.finish(FIRST, result=Payload(len(data), data))
    answer = running.call("task_result", task_id=1)
    seen = answer.pop("seen")
    assert seen > 0
    assert {
        "id": 1,
        "task_key": PLAIN,
        "status": 3,
        "state": "complete",
        "final": True,
        "percent": 100,
        "message": None,
        "result": {"a": [1, 2.5, None], "b": "eA=="},
        "size": len(data),
        "download": "/results/1",
        "error": None,
        "error_code": None,
        "traceback": None,
    } == answer


def test_failure(running: CommandsBench) -> None:
    """A failed instance has the error of the task, and its traceback in place of a result."""
    running.finish(FIRST, FAILED, None, Failure("failed", "ValueError: x", "Traceback"))
    answer = running.call("task_result", task_id=1)
    assert (-1, None, "ValueError: x", "failed", "Traceback") == (
        answer["status"],
        answer["result"],
        answer["error"],
        answer["error_code"],
        answer["traceback"],
    )
    [shown] = running.call("list_recent")
    assert ("Traceback", "ValueError: x") == (shown["results"], shown["error"])


def test_lists_show_only_what_is_small(running: CommandsBench) -> None:
    """Large arguments, results and tracebacks are left out or cut in every list; one instance shows all."""
    text, data = "x" * LISTED, packed("y" * LISTED)
    running.queue(text=text)
    running.finish(FIRST, result=Payload(len(data), data))
    for listed in (
        [each for each in running.call("list_queue") if each["id"] == 2],
        running.call("list_running"),
        running.call("list_recent")[:1],
        running.call("task_history", key=PLAIN)["instances"][:1],
    ):
        assert [(2, None)] == [(each["id"], each["args"]) for each in listed]
    complete = running.call("list_recent")[1]
    assert ('{"n": 5}', None, len(data)) == (complete["args"], complete["results"], complete["size"])
    details = running.call("task_history_detail", task_id=1)["details"]
    assert ("y" * LISTED, len(data)) == (details["results"], details["size"])
    running.finish(Attempt(1, 2), FAILED, None, Failure("failed", "no", "z" * 60_000))
    assert "z" * LISTED == running.call("list_recent")[0]["results"]
    details = running.call("task_history_detail", task_id=2)["details"]
    assert ({"text": text}, "z" * 60_000) == (json.loads(details["args"]), details["results"])


@pytest.mark.parametrize("data", [b"\xc1", b"", b"\x91", b"\x91" * 1000, b"\xa1\xff"])
def test_a_result_that_is_none(running: CommandsBench, data: bytes) -> None:
    """Bytes that are no payload are shown as no result, and it is said that they are none."""
    running.finish(FIRST, result=Payload(len(data), data))
    for answer in (running.call("task_result", task_id=1), running.call("wait_task", task_id=1, seen=0)):
        assert ("complete", None, "result_unreadable") == (
            *(answer["state"], answer["result"], answer["error_code"]),
        )
        assert answer["error"].startswith("The result cannot be read: ")
        assert "/results/1" == answer["download"]
    assert running.call("list_recent")[0]["results"] is None


def test_numbers_that_are_no_json(running: CommandsBench) -> None:
    """NaN and infinity are text in JSON."""
    data = packed([float("nan"), float("inf"), 2**80, {1: 2}])
    running.finish(FIRST, result=Payload(len(data), data))
    [nan, infinity, _, pairs] = running.call("task_result", task_id=1)["result"]
    assert isinstance(nan, str)
    assert isinstance(infinity, str)
    assert {"1": 2} == pairs


@pytest.mark.parametrize("size", [5, 200_000])
def test_large_result(running: CommandsBench, size: int) -> None:
    """A result that is a file is read for the one who asks for it, and left out of lists."""
    data = packed("x" * size)
    running.blobs.put(data)
    running.finish(FIRST, result=Payload(len(data), sha256=hashlib.sha256(data).hexdigest()))
    assert "x" * size == running.call("task_result", task_id=1)["result"]
    assert running.call("list_recent")[0]["results"] is None


def test_large_result_that_is_none(running: CommandsBench) -> None:
    """Nor are those of a file; only if it is too large to be looked at, nothing is said."""
    running.blobs.put(b"\xc1" * 70_000)
    digest = hashlib.sha256(b"\xc1" * 70_000).hexdigest()
    running.finish(FIRST, result=Payload(70_000, sha256=digest))
    answer = running.call("task_result", task_id=1)
    assert (None, "result_unreadable") == (answer["result"], answer["error_code"])


def test_large_result_that_is_gone(running: CommandsBench) -> None:
    """A file that is missing is a fault of the store."""
    running.finish(FIRST, result=Payload(70_000, sha256="ab" * 32))
    with pytest.raises(StoreError, match="missing"):
        running.call("task_result", task_id=1)


@pytest.mark.parametrize("number", [0, -1, 2, 2**63])
@pytest.mark.parametrize("name", ["task_result", "wait_task", "task_log", "task_lines"])
def test_an_unknown_instance(running: CommandsBench, name: str, number: int) -> None:
    """An id that was never given is not found."""
    with pytest.raises(NotFound, match=f"no task instance {number}"):
        running.call(name, task_id=number)


def test_wait_for_the_end(running: CommandsBench) -> None:
    """Waiting without having seen anything is answered when the instance is final."""
    waiting = running.begin("wait_task", task_id=1, timeout=25.0)
    running.dispatcher.unit_progressed(NodeId(1), UnitProgress(FIRST, ONE, 40, None))
    running.clock.advance(5)
    assert not waiting.called
    running.finish(FIRST)
    assert (True, 5) == (result_of(waiting)["final"], 5)
    assert running.call("wait_task", task_id=1)["final"]


def test_wait_runs_out(running: CommandsBench) -> None:
    """After its time it is answered as things stand."""
    waiting = running.begin("wait_task", task_id=1, timeout=3.0)
    running.clock.advance(2)
    running.dispatcher.unit_progressed(NodeId(1), UnitProgress(FIRST, ONE, 40, None))
    assert not waiting.called
    running.clock.advance(1)
    answer = result_of(waiting)
    assert (False, "running", 40) == (answer["final"], answer["state"], answer["percent"])
    assert not running.call("wait_task", task_id=1, timeout=0.0)["final"]


def test_wait_for_news(running: CommandsBench) -> None:
    """With what was seen it is answered at every change, once."""
    seen = running.call("task_result", task_id=1)["seen"]
    waiting = running.begin("wait_task", task_id=1, seen=seen)
    assert not waiting.called
    running.dispatcher.unit_progressed(NodeId(1), UnitProgress(FIRST, ONE, 40, None))
    answer = result_of(waiting)
    assert (40, False) == (answer["percent"], answer["final"])
    waiting = running.begin("wait_task", task_id=1, seen=answer["seen"])
    assert not waiting.called
    running.call("cancel_task", task_id=1)
    assert "cancelling" == result_of(waiting)["state"]


@pytest.mark.parametrize("seen", [0, -1, 1, 10**9])
def test_wait_with_another_number(running: CommandsBench, seen: int) -> None:
    """A number that is not the latest, such as one of an earlier master, is answered at once."""
    assert (
        running.call("task_result", task_id=1)["seen"]
        == running.call("wait_task", task_id=1, seen=seen)["seen"]
    )


def test_wait_is_woken_by_its_own_instance(running: CommandsBench) -> None:
    """News of another instance do not end the waiting."""
    seen = running.call("task_result", task_id=1)["seen"]
    waiting = running.begin("wait_task", task_id=1, seen=seen)
    running.queue()
    running.call("cancel_task", task_id=2)
    assert not waiting.called
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert {} == running.events._waiters


def test_who_waits_gets_the_stored_result(running: CommandsBench) -> None:
    """Who is woken by the end finds the result, though the instance does not live any more."""
    waiting = running.begin("wait_task", task_id=1)
    running.store.hold()
    running.finish(FIRST, result=Payload(1, b"\x07"))
    assert not waiting.called
    running.store.release()
    assert 7 == result_of(waiting)["result"]


def test_restored(bench: CommandsBench) -> None:
    """Instances of an earlier master are shown like any other."""
    old = queued_instance(
        4, status=Status.RUNNING, attempt=Attempt(0, 1), node=NodeId(1), worker="node1:11890:0"
    )
    bench.store._instances = {old.id: old}
    bench.dispatcher.restore([old], {}, [], [])
    [shown] = bench.call("list_running")
    assert (4, "running", "node1:11890:0") == (shown["id"], shown["state"], shown["worker"])
    bench.dispatcher.feed(inputs.NodeReady(NodeId(1), 1, (Attempt(0, 1),)))
    assert bench.call("cancel_task", task_id=4)


def test_units(running: CommandsBench) -> None:
    """An instance that asked for units is shown with how many of them are where, and later from the store."""
    ask = UnitsAsked(ONE, FIRST, "Sub", [0, 1, 2], [b""] * 3, b"d" * 48)
    running.dispatcher.feed(ask)
    units = {"complete": 0, "failed": 0, "running": 1, "queued": 2}
    assert units == running.call("task_statuses")["1"]["units"]
    assert units == running.call("task_result", task_id=1)["units"]
    assert [units] == [each["units"] for each in running.call("list_running")]
    [batch] = running.scheduler.state.batches.values()
    done = UnitsDone(batch.worker.attempt, batch.attempt, 0, [b"\x01"], busy_s=1.0)
    running.dispatcher.units.done(NodeId(1), done)
    units = {"complete": 1, "failed": 0, "running": 1, "queued": 1}
    assert units == running.call("task_result", task_id=1)["units"]
    running.finish(FIRST)
    units = {"complete": 1, "failed": 0, "running": 0, "queued": 0}
    assert units == running.call("task_result", task_id=1)["units"]
    running.dispatcher.ended.clear()
    assert units == running.call("task_result", task_id=1)["units"]
