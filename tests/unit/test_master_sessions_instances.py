# SPDX-License-Identifier: MIT
"""The instance of a session: how it begins, and how it ends complete though its root is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.scheduler.inputs import CancelRequested
from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import STOPPED, StopUnit
from pydra.errors import InvalidParameters, NotFound
from pydra.model.ids import InstanceId
from pydra.model.instance import Payload
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK
from tests.support.instances import VERSION
from tests.support.master_commands import PLAIN, CommandsBench

ONE = InstanceId(1)
COUNTS = Payload(1, b"\x05")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    yield bench
    bench.close()


def opened(bench: CommandsBench, task: str = PLAIN, request_key: str = "", **options: object) -> int:
    """The id of a session."""
    return bench.result(bench.submissions.open_session(task, options, request_key))


def test_a_session_is_an_instance(bench: CommandsBench) -> None:
    """It has a task key of its own, and the package and version of the task that it is for."""
    assert 1 == opened(bench, unit_time_limit=2)
    stored = bench.stored(1)

    assert (SESSION_TASK, "demo", VERSION) == (stored.task_key, stored.package, stored.version)
    assert {"task": PLAIN, "unit_time_limit": 2.0} == payload.unpack(stored.args.inline)
    (listed,) = bench.call("list_queue")
    assert SESSION_TASK == listed["task_key"]


def test_a_session_is_run_like_any_instance(bench: CommandsBench) -> None:
    """Priority, labels and the like may be asked for; what its task has by default is not meant for it."""
    opened(bench, unit_time_limit=2, priority=1, labels=["ssd"])
    stored = bench.stored(1)

    assert (1, ("ssd",), {"task": PLAIN, "unit_time_limit": 2.0}) == (
        stored.priority,
        stored.options.labels,
        payload.unpack(stored.args.inline),
    )


def test_a_request_key_opens_once(bench: CommandsBench) -> None:
    """The same key answers the first id."""
    assert [1, 1, 3] == [opened(bench, request_key=key) for key in ("k" * 16, "k" * 16, "l" * 16)]


@pytest.mark.parametrize(
    "options",
    [{"other": 1}, {"unit_time_limit": -1}, {"unit_time_limit": "1"}, {"unit_time_limit": float("nan")}],
)
def test_what_a_session_cannot_be_opened_with(bench: CommandsBench, options: dict[str, object]) -> None:
    """Unknown options and unusable ones are told by name, and nothing is made."""
    with pytest.raises(InvalidParameters) as refused:
        opened(bench, **options)

    assert {f"options.{name}" for name in options} == set(refused.value.errors)
    with pytest.raises(NotFound):
        opened(bench, "demo.tasks.Nothing")
    assert [] == bench.call("list_queue")


def test_a_session_is_not_submitted(bench: CommandsBench) -> None:
    """Whoever asks for it as for a task is told how it is opened."""
    for call in ("queue_task", "task_form"):
        with pytest.raises(
            NotFound, match=r"pydra.session is opened over /ws; see docs/reference/session.md"
        ):
            bench.call(call, task_key=SESSION_TASK)


def test_the_options_of_a_session_are_listed(bench: CommandsBench) -> None:
    """An unknown one is answered with all that there are, its own one too."""
    with pytest.raises(InvalidParameters, match=r"there are: priority, .*, unit_time_limit\."):
        opened(bench, colour="red")


def test_a_session_that_waits_is_complete_at_once(bench: CommandsBench) -> None:
    """One that never had a worker ends complete, too."""
    opened(bench)
    bench.dispatcher.complete(ONE, COUNTS)
    bench.dispatcher.complete(ONE, COUNTS)

    assert (Status.COMPLETE, COUNTS) == (bench.stored(1).status, bench.stored(1).result)


def test_a_session_that_runs_is_stopped_and_complete(bench: CommandsBench) -> None:
    """Its root is told to stop, and then it is complete with the given result."""
    bench.ready()
    opened(bench)
    bench.take()
    bench.dispatcher.complete(ONE, COUNTS)
    attempt = bench.dispatcher.live[ONE].attempt
    assert attempt is not None
    assert [StopUnit(attempt)] == bench.sent()
    bench.finish(attempt, STOPPED, None)

    assert (Status.COMPLETE, COUNTS) == (bench.stored(1).status, bench.stored(1).result)


def test_what_is_being_cancelled_is_not_complete(bench: CommandsBench) -> None:
    """A close that comes after a cancel changes nothing."""
    bench.ready()
    opened(bench)
    bench.dispatcher.feed(CancelRequested(ONE))
    bench.dispatcher.complete(ONE, COUNTS)
    attempt = bench.dispatcher.live[ONE].attempt
    assert attempt is not None
    bench.finish(attempt, STOPPED, None)

    assert (Status.CANCELLED, None) == (bench.stored(1).status, bench.stored(1).result)
