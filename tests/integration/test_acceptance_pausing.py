# SPDX-License-Identifier: MIT
"""Pausing on a real cluster: nested tasks, and over the death of a master."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, wait_until
from tests.support.detached_cluster import PACKAGES, DetachedCluster

COUNTED = "acceptance.counted.Counted"
ANSWERS = "acceptance.steps.Answers"
UNITS = 60


def at_rest(controller: WebController, instance: int) -> dict[str, int]:
    """The units of a paused instance once none of them runs."""
    units: dict[str, int] = wait_until(
        lambda: controller.explain(instance)["units"], lambda found: found["running"] == 0
    )
    return units


def test_a_pause_outlives_a_killed_master(tmp_path: Path) -> None:
    """Nothing of it begins, its progress is shown, and no unit is computed twice when it goes on."""
    detached = DetachedCluster(tmp_path / "c", "acceptance", COUNTED, workers=2)
    try:
        detached.up()
        controller = detached.controller
        instance = controller.run_tasks(COUNTED, units=str(UNITS), seconds="0.1")
        wait_until(lambda: controller.task_result(instance)["percent"], lambda percent: percent >= 20)
        assert controller.pause_task(instance)
        done = UNITS - at_rest(controller, instance)["queued"]
        assert done < UNITS
        before = wait_until(
            lambda: controller.task_result(instance), lambda found: found["percent"] == 100 * done // UNITS
        )

        detached.kill(detached.master)
        detached.up()
        controller = detached.controller
        other = controller.run_tasks(ANSWERS, size="3")
        wait_until(lambda: controller.task_result(other), lambda found: found["state"] == "complete")
        shown = wait_until(lambda: controller.task_result(instance), lambda found: found["percent"] > 0)
        kept = ("state", "percent", "message", "units")
        assert {name: before[name] for name in kept} == {name: shown[name] for name in kept}
        assert shown["state"] == "paused"

        assert controller.resume_task(instance)
        ended = wait_until(lambda: controller.task_result(instance), lambda found: found["final"])
        assert (ended["state"], ended["result"]) == ("complete", sum(number**2 for number in range(UNITS)))
        log = wait_until(lambda: controller.task_log(instance), lambda text: text.count("computed") >= UNITS)
        assert Counter(map(int, re.findall(r"computed (\d+)$", log, re.MULTILINE))) == Counter(range(UNITS))
        assert "Attempt 2 begins." not in log
    finally:
        detached.down()


def test_nested_tasks_pause(own_cluster: Callable[..., Cluster]) -> None:
    """What runs ends, with the units that it waits for; nothing else begins, and others have the slots."""
    cluster = own_cluster("--workers", "2")
    cluster.put_package("wide", PACKAGES / "wide")
    cluster.wait_listed("wide.units.NestedSpans")
    with cluster.controller() as controller:
        instance = controller.queue_task("wide.units.NestedSpans", {"data": [[0.3] * 4] * 6})["instance_id"]

        def complete(branch: str) -> int:
            rows: list[dict[str, Any]] = controller.task_units(instance, branch)["workunits"]
            return sum(row["state"] == "complete" for row in rows)

        wait_until(lambda: complete("Spans:0/Span"), lambda count: count > 0)
        assert controller.pause_task(instance)
        units = at_rest(controller, instance)
        begun = complete("Spans")
        assert 1 <= begun <= 4
        assert units == {"queued": 6 - begun, "running": 0, "workers": 0}
        assert [complete(f"Spans:{index}/Span") for index in range(6)] == [4] * begun + [0] * (6 - begun)
        (node,) = controller.node_status().values()
        assert all(worker == [1, -1, -1] for worker in node["workers"].values())

        assert controller.resume_task(instance)
        outcome = cluster.wait_final(instance)
        assert (outcome["state"], len(outcome["result"])) == ("complete", 24)
