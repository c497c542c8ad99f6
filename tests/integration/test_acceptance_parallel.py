# SPDX-License-Identifier: MIT
"""Parallel tasks and parallel children on a real cluster (cases P5 and P6), and what goes wrong with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.controller.web.controller import WebController
from pydra.model.status import Status
from tests.support.daemons import EXAMPLES, Cluster, running_cluster, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"
COUNT = "demo.demo_task.TestTask"
SLOTS = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two workers each, and a short grace between the stop flag and the kill."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    with running_cluster(directory, "--nodes", "2", "--workers", "2", PYDRA_STOP_GRACE_S="2") as made:
        made.put_package("demo", EXAMPLES / "demo")
        made.put_package("wide", PACKAGES / "wide")
        made.wait_listed(COUNT)
        made.wait_listed("wide.units.Wide")
        yield made


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; what it left running is cancelled, and all slots are idle afterwards."""
    with cluster.controller() as connected:
        yield connected
        for each in connected.list_queue() + connected.list_running():
            connected.cancel_task(each["id"])
        wait_until(
            lambda: idle_slots(connected), lambda idle: idle == SLOTS, what="idle slots", details=cluster.logs
        )


def idle_slots(controller: WebController) -> int:
    """How many worker slots do nothing."""
    nodes = controller.node_status().values()
    return sum(worker == [1, -1, -1] for node in nodes for worker in node["workers"].values())


def run(cluster: Cluster, controller: WebController, name: str, **args: Any) -> dict[str, Any]:
    """How an instance of a task of the package ends."""
    return cluster.wait_final(controller.queue_task(f"wide.units.{name}", args)["instance_id"], 60)


def complete(cluster: Cluster, controller: WebController, name: str, **args: Any) -> Any:
    """The result of an instance that is complete."""
    outcome = run(cluster, controller, name, **args)
    assert outcome["state"] == "complete", outcome
    return outcome["result"]


def unit_rows(cluster: Cluster, instance: int) -> list[tuple[str, int, int, int]]:
    """Branch, index, status and node of each recorded unit of an instance."""
    database = cluster.directory / "master" / "pydra.sqlite3"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT b.branch, u.unit_index, u.status, u.node FROM pydra_unit u"
            " JOIN pydra_branch b ON b.id = u.branch WHERE b.instance = ? ORDER BY 1, 2",
            (instance,),
        ).fetchall()


def test_ten_items_run_on_the_workers_of_two_nodes(cluster: Cluster, controller: WebController) -> None:
    """Each is recorded as complete under its index, and the result is stored."""
    outcome = run(cluster, controller, "Wide", count=10, seconds=0.4)
    assert outcome["state"] == "complete", outcome
    assert sorted(each["number"] for each in outcome["result"]["told"]) == list(range(10))
    assert outcome["result"]["told"] == outcome["result"]["results"]
    assert outcome["units"] == {"complete": 10, "failed": 0, "running": 0, "queued": 0}
    rows = unit_rows(cluster, outcome["id"])
    assert [row[:3] for row in rows] == [("Unit", index, Status.COMPLETE) for index in range(10)]
    assert len({node for *_, node in rows}) == 2
    details = controller.task_history_detail(outcome["id"])["details"]
    assert details["results"] == outcome["result"]


def test_units_and_the_lines_of_each_are_listed(cluster: Cluster, controller: WebController) -> None:
    """In pages, by state, and in the history; a unit has exactly the lines that it wrote."""
    items = [*range(6), {"fail": "no luck"}]
    instance = run(cluster, controller, "Wide", items=items, policy="collect")["id"]

    first = controller.task_units(instance, limit=4)
    second = controller.task_units(instance, limit=4, after=first["next"])
    assert ("Unit:3", None) == (first["next"], second["next"])
    units = first["workunits"] + second["workunits"]
    assert [f"{instance}/Unit:{index}" for index in range(7)] == [unit["path"] for unit in units]
    assert [*range(6), None] == [unit["result"] for unit in units]
    assert units == controller.task_history_detail(instance)["workunits"]
    (failed,) = controller.task_units(instance, "Unit", state="failed")["workunits"]
    assert (failed["workunit_key"], failed["error"]) == (6, "ValueError: no luck")

    whole = wait_until(
        lambda: controller.task_log(instance), lambda log: all(f"unit of {n}" in log for n in range(6))
    )
    for index in range(6):
        (line,) = controller.task_log(instance, "Unit", index).splitlines()
        assert line.endswith(f" Unit:{index} stdout: unit of {index}")
        assert line in whole.splitlines()
    assert not any("hook" in line for line in controller.task_log(instance, "Unit").splitlines())


@pytest.mark.parametrize("items", [[0], ["only"], [0, "", None, False, [], {}]])
def test_falsy_and_single_items_are_units(
    cluster: Cluster, controller: WebController, items: list[object]
) -> None:
    """Each has its hook called with its own result."""
    result = complete(cluster, controller, "Wide", items=items)
    assert sorted(map(repr, result["told"])) == sorted(map(repr, items))
    assert result["told"] == result["results"]


def test_an_empty_datasource_completes_at_once(cluster: Cluster, controller: WebController) -> None:
    """No unit, and the result of work_complete."""
    outcome = run(cluster, controller, "Wide")
    assert (outcome["state"], outcome["result"]["told"]) == ("complete", [])


@pytest.mark.parametrize("result", [0, False, "", [], {}, None])
def test_falsy_results_are_stored(cluster: Cluster, controller: WebController, result: object) -> None:
    """What work_complete returns is the result, whatever it is."""
    assert complete(cluster, controller, "Answering", result=result) == result


def test_a_failed_unit_fails_the_instance(cluster: Cluster, controller: WebController) -> None:
    """With its path and its own traceback, at once; what else runs is killed."""
    items = [{"seconds": 600}, {"fail": "no luck"}, {"seconds": 600}]
    outcome = run(cluster, controller, "Wide", items=items)
    assert (outcome["state"], outcome["error_code"]) == ("failed", "failed")
    unit = f"Unit {outcome['id']}/Unit:1 (item {items[1]!r})"
    assert outcome["error"] == f"{unit} failed: ValueError: no luck"
    assert 'raise ValueError(data["fail"])' in outcome["traceback"]
    assert "pydra." not in outcome["traceback"]
    wait_until(lambda: idle_slots(controller), lambda idle: idle == SLOTS)


def test_failures_are_collected_after_their_retries(cluster: Cluster, controller: WebController) -> None:
    """The others are complete, and the failed ones recorded as failed."""
    items = [1, {"fail": "a"}, 2, {"fail": "b"}]
    outcome = run(cluster, controller, "Wide", items=items, policy="collect", retries=2)
    result = outcome["result"]
    assert sorted(result["told"]) == [1, 2]
    path = f"{outcome['id']}/Unit"
    assert result["refused"] == [
        [1, f"{path}:1", "failed", "ValueError: a"],
        [3, f"{path}:3", "failed", "ValueError: b"],
    ]
    assert [status for _, _, status, _ in unit_rows(cluster, outcome["id"])] == [
        Status.COMPLETE,
        Status.FAILED,
        Status.COMPLETE,
        Status.FAILED,
    ]


def test_a_hook_that_stops_its_task_cancels_it(cluster: Cluster, controller: WebController) -> None:
    """It is cancelled without a result, as it is without a cluster, and its log says why."""
    instance = controller.queue_task("wide.units.StopsItself", {"count": 3})["instance_id"]
    outcome = cluster.wait_final(instance)

    assert ("cancelled", None) == (outcome["state"], outcome["result"])
    wait_until(lambda: controller.task_log(instance), lambda log: "stopped itself" in str(log))


@pytest.mark.parametrize(
    ("name", "args", "code", "words"),
    [
        (
            "Wide",
            {"items": [{"strange": True}]},
            "failed",
            "The result cannot be sent: result: a value",
        ),
        (
            "Wide",
            {"items": [{"size": 9_000_000}]},
            "limit",
            "The result is 8.6 MiB packed; the limit is 8",
        ),
        ("Broken", {}, "failed", "The datasource failed at item 5: OSError: the disk is gone"),
        ("Strange", {}, "failed", "Item 1 of the datasource cannot be sent: args['data']: a value of type"),
        ("Strange", {"kind": "large"}, "limit", "Item 1 of the datasource is 8.6 MiB packed"),
        (
            "Changing",
            {},
            "failed",
            "Changing sets its subtask while it runs; its constructor calls set_subtask",
        ),
        ("BadHook", {"items": [7]}, "failed", "KeyError: 'hook of 7'"),
        ("Wide", {"policy": "never"}, "failed", 'failure_policy is "fail_fast", "collect" or'),
        ("Wide", {"typo": 1}, "invalid_parameters", "unexpected keyword argument 'typo'"),
    ],
)
def test_what_goes_wrong_is_said_in_words(
    cluster: Cluster, controller: WebController, name: str, args: dict[str, Any], code: str, words: str
) -> None:
    """The instance has failed, no slot is lost, and others run as before."""
    outcome = run(cluster, controller, name, **args)
    assert (outcome["state"], outcome["error_code"]) == ("failed", code), outcome
    assert words in outcome["error"]
    wait_until(lambda: idle_slots(controller), lambda idle: idle == SLOTS)
    assert complete(cluster, controller, "Wide", items=[1])["told"] == [1]


def test_large_results_and_items_travel(cluster: Cluster, controller: WebController) -> None:
    """Those that are above what a message holds come as they went."""
    text = "y" * 100_000
    result = complete(cluster, controller, "Wide", items=[{"size": 400_000}, text])
    assert sorted(map(len, result["results"])) == [100_000, 400_000]


def wait_text(controller: WebController, instance: int, text: str) -> None:
    """Wait until the root of an instance has written this."""
    wait_until(lambda: controller.task_log(instance), lambda log: text in log)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Endless", {}),
        ("Wide", {"items": [1, *({"seconds": 60} for _ in range(20))]}),
        ("Nested", {"items": [20_000, 20_000]}),
    ],
)
def test_a_cancel_ends_a_parallel_task(
    cluster: Cluster, controller: WebController, name: str, args: dict[str, Any]
) -> None:
    """Within seconds, with all its units and all the workers that it held."""
    instance = controller.queue_task(f"wide.units.{name}", args)["instance_id"]
    wait_until(
        lambda: controller.task_result(instance).get("units", {"complete": 0})["complete"],
        lambda count: count > 0,
        what="the first unit",
        details=cluster.logs,
    )
    assert controller.cancel_task(instance) is True
    assert cluster.wait_final(instance)["state"] == "cancelled"
    wait_until(lambda: idle_slots(controller), lambda idle: idle == SLOTS)


def test_units_that_are_asked_for_after_a_cancel_are_refused(
    cluster: Cluster, controller: WebController
) -> None:
    """The task is told, and is cancelled all the same."""
    instance = controller.queue_task("wide.units.AsksOn", {})["instance_id"]
    wait_text(controller, instance, "begun")
    controller.cancel_task(instance)
    assert cluster.wait_final(instance)["state"] == "cancelled"
    wait_text(controller, instance, "too late")
    assert unit_rows(cluster, instance) == []


def test_an_endless_datasource_ends_in_good_order(cluster: Cluster, controller: WebController) -> None:
    """What was drawn when its task had enough is still run."""
    result = complete(cluster, controller, "Endless", until=5000)
    assert result["units"] >= 5000
    assert result["gaps"] is False


def seen_progress(controller: WebController, instance: int) -> list[int]:
    """The percentages that were told while an instance ran, without repetition."""
    seen: list[int] = []

    def look() -> bool:
        told = controller.task_result(instance)
        if not told["final"] and told["percent"] is not None and told["percent"] not in seen[-1:]:
            seen.append(told["percent"])
        return bool(told["final"])

    wait_until(look)
    return seen


def test_a_parallel_task_is_a_step_of_a_container(cluster: Cluster, controller: WebController) -> None:
    """Its units are part of the container's progress, and dicts go on from child to child."""
    instance = controller.queue_task("wide.units.Steps", {"seconds": 0.8})["instance_id"]
    seen = seen_progress(controller, instance)
    outcome = controller.task_result(instance)
    assert outcome["result"] == {"seconds": 0.1, "last": "last"}
    assert seen == sorted(seen)
    assert {0, 40} <= set(seen)
    assert set(seen) <= {0, 40, 50, 60, 70, 80, 100}
    rows = unit_rows(cluster, instance)
    assert [row[:3] for row in rows] == [("1.Numbers.Unit", index, Status.COMPLETE) for index in range(4)]


def test_children_run_at_the_same_time(cluster: Cluster, controller: WebController) -> None:
    """The results are in their order; a parallel task among them asks for its own units."""
    instance = controller.queue_task("wide.units.Together", {"seconds": 0.8})["instance_id"]
    seen = seen_progress(controller, instance)
    outcome = controller.task_result(instance)
    step = {"seconds": 0.8}
    assert outcome["result"] == [
        {**step, "last": "a"},
        {**step, "last": "b"},
        {"seconds": 0.1, "units": 4},
        None,
    ], outcome
    assert seen == sorted(seen)
    assert set(seen) <= {0, 25, 50, 75, 100}
    assert {row[0] for row in unit_rows(cluster, instance)} == {
        "0.Step",
        "1.Step",
        "2.Numbers",
        "2.Numbers:0/Unit",
        "3.TaskContainer",
    }


def test_a_failing_child_ends_the_others(cluster: Cluster, controller: WebController) -> None:
    """The container says which child, and shows its lines."""
    outcome = run(cluster, controller, "TogetherRefuses", seconds=600)
    assert outcome["state"] == "failed"
    assert outcome["error"] == "Subtask TogetherRefuses.1.Refuses failed: ValueError: refused"
    assert 'raise ValueError("refused")' in outcome["traceback"]


NESTED: list[tuple[str, Callable[[int], object]]] = [
    ("Nested", lambda item: sum(range(item))),
    ("NestedBoth", lambda item: [sum(range(item)), item]),
]


@pytest.mark.parametrize(("name", "expected"), NESTED)
def test_units_ask_for_units(
    cluster: Cluster, controller: WebController, name: str, expected: Callable[[int], object]
) -> None:
    """A parallel task, or a container with parallel children, as the subtask of another."""
    items = [0, 1, 5, 20, 3]
    result = complete(cluster, controller, name, items=items)
    assert result == {str(item): expected(item) for item in items}


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Of how many units the spans of time overlap."""
    return max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans)


def test_no_more_units_at_once_than_slots(cluster: Cluster, controller: WebController) -> None:
    """A worker whose unit has ended gets no other one while its slot is lent to one that works."""
    spans = complete(cluster, controller, "NestedSpans", data=[[0.4] * 6] * 3)
    assert len(spans) == 18
    assert most_at_once(spans) <= SLOTS


def test_one_slot_is_enough_for_all_of_it(own_cluster: Callable[..., Cluster]) -> None:
    """Whoever waits for units lends its place to them."""
    cluster = own_cluster("--workers", "1")
    cluster.put_package("wide", PACKAGES / "wide")
    cluster.wait_listed("wide.units.Wide")
    with cluster.controller() as controller:
        for name, expected in NESTED:
            assert complete(cluster, controller, name, items=[3, 4]) == {"3": expected(3), "4": expected(4)}
        assert len(complete(cluster, controller, "Together", seconds=0.1)) == 4
