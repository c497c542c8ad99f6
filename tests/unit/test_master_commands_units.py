# SPDX-License-Identifier: MIT
"""The work units of an instance, as the API lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.commands.objects import SHOWN_RESULT
from pydra.cluster.wire.payload import pack
from pydra.errors import InvalidParameters, NotFound
from pydra.model.changes import InsertUnits, RecordUnits
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure, Payload
from tests.support.instances import queued_instance
from tests.support.master_commands import CommandsBench
from tests.support.pumps import result_of

ONE = InstanceId(1)
FAILURE = Failure("failed", "no", "Traceback")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """An instance that has ten units in one branch, one of them failed, and a queued one in another."""
    bench = CommandsBench(tmp_path)
    bench.store._instances[ONE] = queued_instance(1)
    results = [pack({"n": index}) for index in range(10)]
    results[8] = pack("x" * (SHOWN_RESULT + 1))
    record = RecordUnits(
        *(ONE, "Sub", range(10), bytes(160), results, {3: FAILURE}),
        *({9: Payload(70_000, sha256="ab" * 32)}, Attempt(1, 5), NodeId(4), 1_700_000_000.0),
    )
    submit = InsertUnits(ONE, "Other", [2**63 - 1], [pack({"a": 1})], bytes(16))
    result_of(Deferred.fromCoroutine(bench.store.commit([record, submit])))
    yield bench
    bench.close()


def test_a_complete_unit(bench: CommandsBench) -> None:
    """It has its result, when it ended and where it ran."""
    (unit,) = bench.call("task_units", task_id=1, branch="Sub", limit=1)["workunits"]

    assert {
        "path": "1/Sub:0",
        "subtask_key": "Sub",
        "workunit_key": 0,
        "args": None,
        "status": 3,
        "state": "complete",
        "started": None,
        "completed": "2023-11-14 22:13:20",
        "node": 4,
        "attempt": "1.5",
        "result": {"n": 0},
        "size": 4,
        "error": None,
        "error_code": None,
        "traceback": None,
    } == unit


def test_failed_units_and_queued_ones_can_be_chosen(bench: CommandsBench) -> None:
    """They have the failure, and the arguments."""
    (failed,) = bench.call("task_units", task_id=1, state="failed")["workunits"]
    assert (3, "no", "failed", "Traceback", None) == (
        *(failed["workunit_key"], failed["error"], failed["error_code"], failed["traceback"]),
        failed["result"],
    )
    (queued,) = bench.call("task_units", task_id=1, state="queued")["workunits"]
    assert ("1/Other:9223372036854775807", {"a": 1}) == (queued["path"], queued["args"])


def test_long_tracebacks_are_shown_for_one(bench: CommandsBench) -> None:
    """Among others a unit has the end of its traceback; alone, and if it is short, it has all."""
    long = Failure("failed", "no", "begin" + "t" * 60_000)
    record = RecordUnits(
        *(ONE, "Sub2", range(2), bytes(32), [b"", b""], {0: long, 1: FAILURE}),
        *({}, Attempt(1, 6), NodeId(4), 1_700_000_000.0),
    )
    result_of(Deferred.fromCoroutine(bench.store.commit([record])))

    listed = bench.call("task_units", task_id=1, branch="Sub2")["workunits"]
    assert ["t" * SHOWN_RESULT, "Traceback"] == [unit["traceback"] for unit in listed]
    (alone,) = bench.call("task_units", task_id=1, branch="Sub2", limit=1)["workunits"]
    assert long.traceback == alone["traceback"]
    detail = bench.call("task_history_detail", task_id=1)
    assert max(len(unit["traceback"] or "") for unit in detail["workunits"]) == SHOWN_RESULT
    assert [] == bench.call("task_history_detail", task_id=1, workunits=False)["workunits"]


def test_large_results_are_not_shown(bench: CommandsBench) -> None:
    """Only how large they are."""
    answer = bench.call("task_units", task_id=1, after="Sub:7")

    shown = [(unit["result"], unit["size"]) for unit in answer["workunits"]]
    assert [(None, SHOWN_RESULT + 4), (None, 70_000)] == shown


def test_pages_follow_each_other(bench: CommandsBench) -> None:
    """Each names the last unit that it showed, unless it was the last of all; the first counts them."""
    found, after = [], None
    while True:
        answer = bench.call("task_units", task_id=1, after=after, limit=4)
        counted = {"complete": 9, "failed": 1, "running": 0, "queued": 1} if after is None else None
        assert counted == answer.get("units")
        found.append([unit["workunit_key"] for unit in answer["workunits"]])
        after = answer["next"]
        if after is None:
            break
    assert [[2**63 - 1, 0, 1, 2], [3, 4, 5, 6], [7, 8, 9]] == found


def test_an_instance_without_units(bench: CommandsBench) -> None:
    """None are listed, and none are counted."""
    bench.store._instances[InstanceId(2)] = queued_instance(2)

    counts = {"complete": 0, "failed": 0, "running": 0, "queued": 0}
    assert {"workunits": [], "next": None, "units": counts} == bench.call("task_units", task_id=2)
    assert [] == bench.call("task_units", task_id=1, branch="Nothing")["workunits"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"after": name} for name in ("", "Sub", "Sub:", "Sub:-1", "Sub:٣", "Sub:9223372036854775808")),
        {"after": "Sub:" + "9" * 5000},
        *({"state": state} for state in ("", "running", "FAILED")),
    ],
)
def test_what_names_nothing_is_refused(bench: CommandsBench, wrong: dict[str, str]) -> None:
    """In words that name the argument."""
    with pytest.raises(InvalidParameters) as refused:
        bench.call("task_units", task_id=1, **wrong)
    assert set(wrong) == set(refused.value.errors)


def test_an_unknown_instance(bench: CommandsBench) -> None:
    """It is said so."""
    with pytest.raises(NotFound):
        bench.call("task_units", task_id=9)


def test_the_history_shows_the_first_units(bench: CommandsBench) -> None:
    """And how many there are."""
    detail = bench.call("task_history_detail", task_id=1)

    assert 11 == len(detail["workunits"])
    assert {"complete": 9, "failed": 1, "running": 0, "queued": 1} == detail["details"]["units"]
    assert [("Other", 0), ("Sub", 3)] == [
        (unit["subtask_key"], unit["status"]) for unit in detail["workunits"][:2]
    ]
