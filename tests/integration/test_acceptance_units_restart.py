# SPDX-License-Identifier: MIT
"""What `kill -9` costs a parallel task: no unit that was recorded is computed again."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, wait_until
from tests.support.detached_cluster import PACKAGES, DetachedCluster

COUNTED = "acceptance.counted.Counted"
SUM = sum(number**2 for number in range(1000))
FIRST_ATTEMPT = "1.1"
"""Of the first instance of a new cluster."""


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[DetachedCluster]:
    """One node with two worker slots."""
    cluster = DetachedCluster(tmp_path / "c", "acceptance", COUNTED, workers=2)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def complete(detached: DetachedCluster, instance: int) -> int:
    """How many of its units are recorded as complete."""
    units = detached.controller.task_result(instance).get("units") or {}
    return int(units.get("complete", 0))


def computed(controller: WebController, instance: int, least: int = 1000) -> Counter[int]:
    """How often each unit began, as its lines tell; so many of them at least, when all lines are there."""

    def count() -> Counter[int]:
        found = re.findall(r"computed (\d+)$", controller.task_log(instance), re.MULTILINE)
        return Counter(map(int, found))

    return wait_until(count, lambda begun: len(begun) >= least)


def ended(detached: DetachedCluster, instance: int) -> dict[str, object]:
    """The outcome."""
    return wait_until(lambda: detached.controller.task_result(instance), lambda found: found["final"])


def test_a_killed_main_worker_computes_only_what_was_not_recorded(detached: DetachedCluster) -> None:
    """It dies after 900 of 1,000 units; in its next life the recorded ones are given to it at once."""
    instance = detached.controller.run_tasks(COUNTED, dies_as=FIRST_ATTEMPT)
    outcome = ended(detached, instance)
    begun = computed(detached.controller, instance)

    assert (outcome["state"], outcome["result"]) == ("complete", SUM)
    assert begun.total() <= 1150
    assert "Attempt 2 begins." in detached.controller.task_log(instance)


def test_a_killed_master_costs_no_unit(detached: DetachedCluster) -> None:
    """The workers go on without it, and what they did meanwhile is recorded."""
    instance = detached.controller.run_tasks(COUNTED, seconds="0.005")
    wait_until(lambda: complete(detached, instance), lambda count: count > 200)
    detached.kill(detached.master)
    detached.up()
    outcome = ended(detached, instance)

    assert (outcome["state"], outcome["result"]) == ("complete", SUM)
    assert computed(detached.controller, instance) == Counter(range(1000))
    assert "Attempt 2 begins." not in detached.controller.task_log(instance)


def test_a_killed_node_computes_only_what_was_not_recorded(detached: DetachedCluster) -> None:
    """Its workers are gone with it; what they had given it is in its journal."""
    instance = detached.controller.run_tasks(COUNTED, seconds="0.005")
    wait_until(lambda: complete(detached, instance), lambda count: count > 200)
    detached.kill(detached.node)
    detached.up()
    outcome = ended(detached, instance)
    begun = computed(detached.controller, instance, least=990)  # its last lines may have died with the node

    assert (outcome["state"], outcome["result"]) == ("complete", SUM)
    assert begun.total() <= 1000 + 300


def test_a_killed_worker_is_replaced_and_the_task_ends_complete(detached: DetachedCluster) -> None:
    """Its unit is computed elsewhere."""
    instance = detached.controller.run_tasks(COUNTED, seconds="0.005")
    wait_until(lambda: complete(detached, instance), lambda count: count > 100)
    for _ in range(3):
        before = complete(detached, instance)
        os.kill(_squaring(detached), signal.SIGKILL)
        wait_until(lambda seen=before: complete(detached, instance) > seen + 20)
    outcome = ended(detached, instance)
    begun = computed(detached.controller, instance)

    assert (outcome["state"], outcome["result"]) == ("complete", SUM)
    assert begun.total() <= 1150


def _squaring(detached: DetachedCluster) -> int:
    """A worker that computes units, by the name that they give it."""

    def look() -> list[int]:
        found = []
        for process in psutil.Process(detached.node).children(recursive=True):
            with suppress(psutil.Error):
                found += [process.pid] if process.name() == "squares" else []
        return found

    return wait_until(look)[0]


def test_a_node_that_stood_still_loses_nothing(own_cluster: Callable[..., Cluster]) -> None:
    """It is suspected for some seconds; no unit is given to another, and none is computed twice."""
    cluster = own_cluster("--nodes", "2", "--workers", "2")
    cluster.put_package("acceptance", PACKAGES / "acceptance")
    cluster.wait_listed(COUNTED)
    node = cluster.node_pids[1]
    with cluster.controller() as controller:
        wait_until(controller.cluster_info, lambda found: found["connected"] == 2)
        instance = controller.run_tasks(COUNTED, seconds="0.05")
        computed(controller, instance, least=50)
        os.kill(node, signal.SIGSTOP)
        try:
            wait_until(
                lambda: controller.explain(instance)["text"],
                lambda text: "sends no heartbeat" in text or "is not connected" in text,
            )
        finally:
            os.kill(node, signal.SIGCONT)
        outcome = cluster.wait_final(instance)
        assert (outcome["state"], outcome["result"]) == ("complete", SUM)
        assert computed(controller, instance) == Counter(range(1000))
        assert "Attempt 2 begins." not in controller.task_log(instance)
