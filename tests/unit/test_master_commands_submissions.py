# SPDX-License-Identifier: MIT
"""Asking for a task to be run: arguments, request keys, and what is told of tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pydra.cluster.wire import frames, payload
from pydra.cluster.wire.messages import RunUnit
from pydra.errors import InvalidParameters, NotFound, SandboxError, StoreError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import INLINE_LIMIT, Payload
from tests.support.instances import VERSION
from tests.support.master_commands import CHECKED, DEMO, FORMED, PLAIN, CommandsBench, packed
from tests.support.masters import WALL_TIME
from tests.support.pumps import result_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    yield bench
    bench.close()


def arguments(bench: CommandsBench, number: int) -> object:
    """The arguments that an instance was stored with."""
    return payload.unpack(bench.stored(number).args.inline)


def test_queue_task(bench: CommandsBench) -> None:
    """A submission is answered with its id and time, and stored whole."""
    bench.clock.advance(1)
    answer = bench.call("queue_task", task_key=PLAIN, args={"n": [1, "x"]})
    assert {"task_key": PLAIN, "instance_id": 1, "time": WALL_TIME + 1} == answer
    stored = bench.stored(1)
    assert (PLAIN, "demo", VERSION, 5, "") == (
        stored.task_key,
        stored.package,
        stored.version,
        stored.priority,
        stored.request_key,
    )
    assert {"n": [1, "x"]} == arguments(bench, 1)


def test_run_tasks(bench: CommandsBench) -> None:
    """The other way to ask answers the id alone."""
    assert [1, 2] == [bench.call("run_tasks", task_key=PLAIN, args={"n": 1}) for _ in range(2)]


def test_without_arguments(bench: CommandsBench) -> None:
    """No arguments are an empty map."""
    bench.call("queue_task", task_key=PLAIN)
    bench.call("queue_task", task_key=PLAIN, args=None)
    assert [{}, {}] == [arguments(bench, number) for number in (1, 2)]


def test_it_is_answered_after_its_commit(bench: CommandsBench) -> None:
    """No id is told before the instance is stored."""
    bench.store.hold()
    asked = bench.begin("queue_task", task_key=PLAIN)
    assert not asked.called
    bench.store.release()
    assert 1 == result_of(asked)["instance_id"]


def test_ids_go_on(bench: CommandsBench) -> None:
    """Ids rise from the highest that was ever given, also over a refusal."""
    bench.submissions._highest = InstanceId(41)
    assert 42 == bench.queue()
    bench.store.refuse("The disk is full.")
    with pytest.raises(StoreError):
        bench.queue()
    bench.store.accept()
    assert 44 == bench.queue()


def test_several_at_once(bench: CommandsBench) -> None:
    """Submissions that are under way together get ids of their own."""
    bench.store.hold()
    asked = [bench.begin("queue_task", task_key=PLAIN) for _ in range(3)]
    bench.store.release()
    assert [1, 2, 3] == [result_of(each)["instance_id"] for each in asked]


@pytest.mark.parametrize("name", ["queue_task", "run_tasks"])
def test_request_key(bench: CommandsBench, name: str) -> None:
    """The same request key answers the first id, and nothing runs twice."""
    answers = [bench.call(name, task_key=PLAIN, args={"n": n}, request_key="k" * 32) for n in range(2)]
    ids = [answer["instance_id"] if isinstance(answer, dict) else answer for answer in answers]
    assert [1, 1] == ids
    assert {"n": 0} == arguments(bench, 1)
    assert 1 == len(bench.call("list_queue"))


def test_form(bench: CommandsBench) -> None:
    """Arguments of a form are cleaned by it."""
    bench.call("queue_task", task_key=FORMED, args={"start": " 5 "})
    assert {"start": 5} == arguments(bench, 1)


@pytest.mark.parametrize("args", [{"start": "x"}, {"start": -1}, {"start": 1, "other": 2}])
def test_form_refuses(bench: CommandsBench, args: dict[str, object]) -> None:
    """Bad arguments are answered field by field, or raised, and nothing is queued."""
    answer = bench.call("queue_task", task_key=FORMED, args=args)
    assert {"task_key", "errors"} == set(answer)
    assert all(isinstance(texts, list) and texts for texts in answer["errors"].values())
    with pytest.raises(InvalidParameters) as raised:
        bench.call("run_tasks", task_key=FORMED, args=args)
    assert answer["errors"] == raised.value.errors
    assert [] == bench.call("list_queue")


def test_form_in_the_sandbox(bench: CommandsBench) -> None:
    """A form with code of its own is asked in its sandbox, with the current version."""
    asked = bench.begin("queue_task", task_key=CHECKED, args={"name": "x"})
    assert VERSION == bench.workers.last.version
    bench.workers.last.says(frames.VALIDATED, 1, True, packed({"name": "X"}))
    assert 1 == result_of(asked)["instance_id"]
    assert {"name": "X"} == arguments(bench, 1)


def test_form_in_the_sandbox_refuses(bench: CommandsBench) -> None:
    """Its messages are answered by field."""
    asked = bench.begin("queue_task", task_key=CHECKED, args={"name": "x"})
    bench.workers.last.says(frames.VALIDATED, 1, False, packed({"name": ["Too short."]}))
    assert {"task_key": CHECKED, "errors": {"name": ["Too short."]}} == result_of(asked)


def test_form_in_the_sandbox_that_breaks(bench: CommandsBench) -> None:
    """A form that cannot be asked is an error of no field."""
    asked = bench.begin("queue_task", task_key=CHECKED, args={"name": "x"})
    bench.workers.last.says(99)
    assert [""] == list(result_of(asked)["errors"])


def test_no_sandbox(bench: CommandsBench) -> None:
    """Without a sandbox such a form cannot be checked now, and that is told as it is."""
    bench.workers.fault = SandboxError("No worker can be started.")
    with pytest.raises(SandboxError):
        bench.call("queue_task", task_key=CHECKED, args={"name": "x"})


@pytest.mark.parametrize("name", ["queue_task", "run_tasks", "task_form"])
@pytest.mark.parametrize("key", ["", "demo", "demo.tasks.Other", "demo.broken.Task", "x" * 10_000])
def test_unknown_task(bench: CommandsBench, name: str, key: str) -> None:
    """A key of no task is not found."""
    with pytest.raises(NotFound):
        bench.call(name, task_key=key)


@pytest.mark.parametrize("value", ["\ud800", 2**13_000, object()], ids=["surrogate", "number", "object"])
def test_what_cannot_travel(bench: CommandsBench, value: object) -> None:
    """Arguments that cannot be sent to a worker are not good."""
    answer = bench.call("queue_task", task_key=PLAIN, args={"n": value})
    assert [""] == list(answer["errors"])
    nested: object = 1
    for _ in range(100):
        nested = [nested]
    assert "errors" in bench.call("queue_task", task_key=PLAIN, args={"n": nested})
    assert [] == bench.call("list_queue")


@pytest.mark.parametrize("size", [INLINE_LIMIT - 20, INLINE_LIMIT + 20])
def test_large_arguments(bench: CommandsBench, size: int) -> None:
    """Arguments above the inline limit are a file before the instance is stored."""
    bench.ready()
    bench.call("queue_task", task_key=PLAIN, args={"n": "x" * size})
    data = packed({"n": "x" * size})
    args = bench.stored(1).args
    if size < INLINE_LIMIT:
        assert Payload(len(data), data) == args
    else:
        assert Payload(len(data), sha256=hashlib.sha256(data).hexdigest()) == args
        assert data == bench.blobs.read(args.sha256)
    assert [args] == [message.args for message in bench.sent() if isinstance(message, RunUnit)]


def test_list_tasks(bench: CommandsBench) -> None:
    """Every task by its key, with its last run and its form."""
    bench.ready()
    bench.queue()
    bench.clock.advance(2)
    bench.finish(Attempt(1, 1))
    assert {
        PLAIN: {"description": "Takes anything.", "last_run": WALL_TIME + 2, "form": None},
        FORMED: {"description": "Counts.", "last_run": None, "form": "<p>start</p>"},
        CHECKED: {"description": "Checks.", "last_run": None, "form": ""},
    } == bench.call("list_tasks")


@pytest.mark.parametrize(
    ("keys", "listed"),
    [(None, 3), ([], 3), ([PLAIN], 1), ([PLAIN, "demo.nothing.There"], 1), (["demo"], 0)],
)
def test_list_some_tasks(bench: CommandsBench, keys: list[str] | None, listed: int) -> None:
    """Keys, if there are any, restrict; ``toplevel`` changes nothing."""
    for toplevel in (True, False):
        assert listed == len(bench.call("list_tasks", keys=keys, toplevel=toplevel))


def test_task_form(bench: CommandsBench) -> None:
    """The form of a task, field by field; null if it takes what it is given."""
    assert bench.call("task_form", task_key=PLAIN) is None
    form = bench.call("task_form", task_key=FORMED)
    assert (False, "start", "integer", 0.0) == (
        form["needs_sandbox"],
        form["fields"][0]["name"],
        form["fields"][0]["kind"],
        form["fields"][0]["minimum"],
    )


def test_package_list(bench: CommandsBench) -> None:
    """Packages with their tasks and the files that are broken."""
    bench.library._current[DEMO.package] = msgspec.structs.replace(DEMO, described=0.0)
    assert bench.call("package_list")[0]["described"] is None
    bench.library._current[DEMO.package] = DEMO
    assert [
        {
            "package": "demo",
            "version": VERSION,
            "tasks": [PLAIN, FORMED, CHECKED],
            "errors": [{"file": "broken.py", "message": "SyntaxError"}],
            "dependencies": [],
            "described": "2023-11-14 22:13:20",
            "uploaded": False,
        }
    ] == bench.call("package_list")
