# SPDX-License-Identifier: MIT
"""Options of a submission: what callers may ask for, and what they are told if they may not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydra.cluster.master.commands.options import options_object, read_options, session_options
from pydra.cluster.master.endings import past_of
from pydra.cluster.scheduler import inputs
from pydra.cluster.wire.messages import COMPLETE, FAILED
from pydra.errors import InvalidParameters
from pydra.model.ids import Attempt, InstanceId, NodeId, TaskKey
from pydra.model.instance import Failure
from pydra.model.options import NO_OPTIONS, Dependency, RunOptions
from pydra.model.package import TaskDescription
from pydra.model.status import Status
from tests.support.master_commands import PLAIN, CommandsBench
from tests.support.masters import Heart
from tests.support.pumps import result_of

TASK = TaskDescription(TaskKey("demo.tasks.Plain"), "")
DEP = "the numbers of task instances are needed."


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    yield bench
    bench.close()


def ready(bench: CommandsBench, slots: int) -> None:
    """A node is there."""
    bench.dispatcher.feed(inputs.NodeReady(NodeId(1), slots))


def submit(bench: CommandsBench, **options: Any) -> dict[str, Any]:
    """What a submission with these options is answered."""
    answer: dict[str, Any] = bench.call("queue_task", task_key=PLAIN, options=options)
    return answer


def test_options_are_kept_with_the_instance(bench: CommandsBench) -> None:
    """All of them, with the dependencies, and the priority in its own place too."""
    bench.queue()
    number = submit(
        bench,
        priority=2,
        time_limit=60,
        retries=3,
        retry_delay=0.5,
        resources={"gpus": 1, "cpus": 0.5, "memory": 0},
        labels=["ssd", "big", "ssd"],
        after=1,
        follow={"instances": [1], "mode": "any", "failure": True},
    )["instance_id"]
    stored = bench.stored(number)
    assert 2 == stored.priority
    assert (
        RunOptions(
            priority=2,
            time_limit=60.0,
            retries=3,
            retry_delay=0.5,
            resources={"cpus": 0.5, "gpus": 1.0},
            labels=("big", "ssd"),
            after=Dependency((InstanceId(1),)),
            follow=Dependency((InstanceId(1),), all=False, failure=True),
        )
        == stored.options
    )
    assert [1, number] == [view.instance for view in bench.scheduler.queued()][::-1]


def test_no_options_are_none(bench: CommandsBench) -> None:
    """Left out, null, empty, and those that ask for nothing."""
    nothing: list[dict[str, Any] | None] = [None, {}, {"labels": [], "after": [], "priority": 5}]
    assert [NO_OPTIONS] * 3 == [read_options(each, TASK) for each in nothing]
    assert options_object(NO_OPTIONS) is None
    assert NO_OPTIONS == bench.stored(bench.queue()).options


def test_a_task_has_its_own_defaults() -> None:
    """They hold for what is not asked for; null is not asked for, and 0 is."""
    task = msgspec.structs.replace(TASK, time_limit=5.0, retries=2, retry_delay=3.0)
    assert RunOptions(time_limit=5.0, retries=2, retry_delay=3.0) == read_options({}, task)
    assert RunOptions(retries=2, retry_delay=3.0) == read_options({"time_limit": 0, "retries": None}, task)


def test_at_most_once_and_exclusive() -> None:
    """Who submits may ask for them; the task's own retries are for who does not."""
    task = msgspec.structs.replace(TASK, retries=2)
    assert RunOptions(retry="never") == read_options({"retry": "never"}, task)
    assert RunOptions(retries=2, exclusive=True) == read_options({"exclusive": True, "retry": "lost"}, task)
    assert {"retry": "never", "exclusive": True} == options_object(RunOptions(retry="never", exclusive=True))


def test_what_a_task_promises_holds() -> None:
    """It is so for all who submit it; nobody can ask for less."""
    task = msgspec.structs.replace(TASK, retry="never", exclusive=True)
    assert RunOptions(retry="never", exclusive=True) == read_options(None, task)
    assert RunOptions(retry="never", exclusive=True) == session_options({}, task)[1]
    for name, value, why in (("retry", "lost", "never run again"), ("exclusive", False, "is exclusive")):
        with pytest.raises(InvalidParameters) as refused:
            read_options({name: value}, task)
        assert [f"options.{name}"] == list(refused.value.errors)
        assert why in str(refused.value)


def test_retries_of_what_is_never_run_again() -> None:
    """They contradict each other, also those of units; retries of 0 do not."""
    assert RunOptions(retry="never") == read_options({"retry": "never", "retries": 0}, TASK)
    for options, task in (
        ({"retry": "never", "retries": 1}, TASK),
        ({"retries": 1}, msgspec.structs.replace(TASK, retry="never")),
        ({"retry": "never"}, msgspec.structs.replace(TASK, unit_retries=3)),
    ):
        with pytest.raises(InvalidParameters, match="never"):
            read_options(options, task)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("retry", ["NEVER", "", 0, True, [], {"never": 1}, "x" * 1000], "'lost' or 'never' is needed"),
        ("exclusive", ["true", 1, 0, [], {}], "true or false is needed"),
        ("priority", [1.5, "1", True, [], 10**7, -(10**7), math.nan, 10**400], "a whole number from"),
        ("time_limit", [-1, "1", True, math.nan, math.inf, 1e9, {}], "seconds from 0 to 31536000 are"),
        ("retries", [-1, 1001, 0.5, "3", False], "a whole number from 0 to 1000"),
        ("retry_delay", [-0.1, 86401, math.nan, [1]], "seconds from 0 to 86400 are"),
        ("resources", [5, [], "gpus=1", {f"r{n}": 1 for n in range(33)}], "an object of at most 32"),
        (
            "resources",
            [{"GPU": 1}, {"": 1}, {"a b": 1}, {"x" * 33: 1}, {"a\n": 1}],
            "is no name of a",
        ),
        ("resources", [{"g": -1}, {"g": "1"}, {"g": math.nan}, {"g": True}, {"g": 1e10}], "g: an amount"),
        ("labels", [5, {}, [f"l{n}" for n in range(65)]], "a list of at most 64"),
        ("labels", [["a b"], [""], [5], [None], ["x" * 65], "-", ["\n"], ["a\n"]], "is no label"),
        ("after", [0, -1, "x", 1.5, True, [[1]], [None], 2**63, {"mode": "all"}, ["1"], 1.0], DEP),
        ("after", [{"instances": [1], "mode": "some"}, {"instances": [1], "mode": []}], "the mode is"),
        ("after", [{"instances": [1], "success": 1}, {"instances": [1], "success": False}], "one of them"),
        ("after", [{"instances": [1], "whatever": 1}], "there is no whatever"),
        ("after", [list(range(1, 10_001))], "at most 1000 task instances can be named, not 10000."),
        ("follow", [[1] * 1001], "at most 1000"),
        ("follow", [99, [99], {"instances": [99], "mode": "any"}], "there is no task instance 99."),
        ("after", [list(range(90, 99))], "there is no task instance 90, 91, 92, 93, 94, ..."),
        ("nice", [1], "there is no such option; there are: priority,"),
        ("x" * 1000, [1], "there is no such option"),
    ],
)
def test_what_nobody_may_ask_for(bench: CommandsBench, name: str, values: list[object], why: str) -> None:
    """The answer names the option and says what is allowed; nothing is accepted."""
    for value in values:
        answer = submit(bench, **{name: value})
        [(field, [told])] = answer["errors"].items()
        assert (f"options.{name}"[:58], True) == (field, why in told), (value, told)
        assert not bench.dispatcher.live
        with pytest.raises(InvalidParameters):
            bench.call("run_tasks", task_key=PLAIN, options={name: value})


def test_all_faults_are_told_at_once(bench: CommandsBench) -> None:
    """Each by its name."""
    answer = submit(bench, priority="high", retries=-1, labels="ok", nice=1)
    assert {"options.priority", "options.retries", "options.nice"} == set(answer["errors"])


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*RunOptions.__struct_fields__, "x"])


@given(st.dictionaries(NAMES, JUNK, max_size=4))
@settings(deadline=None)
def test_anything_is_read_or_refused(junk: dict[str, Any]) -> None:
    """No JSON whatever raises anything else, and what was read can be stored, and read again as shown."""
    try:
        options = read_options(junk, TASK)
    except InvalidParameters:
        return
    assert options == msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=RunOptions)
    assert options == read_options(options_object(options), TASK)


def test_dependencies_are_found_wherever_they_are(bench: CommandsBench) -> None:
    """One that waits, one that ended just now, and one that only the store knows."""
    ready(bench, slots=1)
    for _ in range(3):
        bench.queue()
    bench.finish(Attempt(1, 1), COMPLETE)
    bench.finish(Attempt(1, 2), FAILED, None, Failure("failed", "no"))
    bench.dispatcher.ended.clear()
    late = submit(bench, after=[1, 3])["instance_id"]
    dead = submit(bench, after=[2, 3])["instance_id"]
    assert Status.QUEUED is bench.stored(late).status
    failed = bench.stored(dead)
    assert failed.failure is not None
    assert (Status.FAILED, "dependency") == (failed.status, failed.failure.code)
    assert "task instance 2 failed" in failed.failure.message
    bench.finish(Attempt(1, 3), COMPLETE)
    assert Status.RUNNING is bench.stored(late).status


def test_one_that_ends_while_another_is_committed(bench: CommandsBench) -> None:
    """Its end is not missed, whether it is stored by then or not."""
    ready(bench, slots=1)
    first = bench.queue()
    bench.store.hold()
    begun = bench.begin("queue_task", task_key=PLAIN, options={"after": first})
    bench.finish(Attempt(1, 1), COMPLETE)
    bench.store.release()
    number = result_of(begun)["instance_id"]
    assert Status.RUNNING is bench.stored(number).status
    assert {} == bench.dispatcher.endings.since([InstanceId(first)])


def test_dependencies_hold_after_a_restart(bench: CommandsBench) -> None:
    """Of what waits, and of what the store alone knows."""
    ready(bench, slots=2)
    bench.queue()
    bench.finish(Attempt(1, 1), COMPLETE)
    running = bench.queue()
    bench.queue()
    waiting = submit(bench, after=[1, running])["instance_id"]
    again = Heart(store=bench.store, clock=bench.clock)
    unfinished = again.result(bench.store.unfinished())
    again.dispatcher.restore(unfinished, again.result(past_of(bench.store, unfinished)), [], [])
    explained = again.scheduler.queued()
    assert [waiting] == [view.instance for view in explained]
    again.dispatcher.stop()
