# SPDX-License-Identifier: MIT
"""What runs at most once does, whatever is killed; of what is exclusive no two are alive at one time."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.daemons import wait_until
from tests.support.detached_cluster import DetachedCluster

SEND_ALL, ONCE, ALONE, ALONE_UNIT = (
    f"acceptance.sends.{name}" for name in ("SendAll", "Once", "Alone", "AloneUnit")
)
UNITS = 200


LIMITS = {"HEARTBEAT_S": "0.5", "SUSPECT_S": "2", "EXCLUSIVE_STOP_S": "3", "EXCLUSIVE_LEASE_S": "6"}


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[DetachedCluster]:
    """One node with two worker slots, and short limits."""
    cluster = DetachedCluster(tmp_path / "c", "acceptance", SEND_ALL, workers=2, **LIMITS)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def sending(detached: DetachedCluster) -> int:
    """A worker that sends, by the name that it gives itself."""

    def look() -> list[int]:
        found = []
        for process in psutil.Process(detached.node).children(recursive=True):
            with suppress(psutil.Error):
                found += [process.pid] if process.name() == "sends" else []
        return found

    return wait_until(look)[0]


def ended(detached: DetachedCluster, instance: int) -> dict[str, object]:
    """The outcome."""
    return wait_until(lambda: detached.controller.task_result(instance), lambda found: found["final"])


def complete(detached: DetachedCluster, instance: int) -> int:
    """How many of its units are recorded as complete."""
    units = detached.controller.task_result(instance).get("units") or {}
    return int(units.get("complete", 0))


def test_no_unit_is_sent_twice(detached: DetachedCluster) -> None:
    """Worker, master and node are killed in the midst: what was lost has failed, all else was sent."""
    instance = detached.controller.run_tasks(SEND_ALL, units=str(UNITS))
    wait_until(lambda: complete(detached, instance) > 10)
    os.kill(sending(detached), signal.SIGKILL)
    wait_until(lambda: complete(detached, instance) > 30)
    detached.kill(detached.master)
    detached.up()
    wait_until(lambda: complete(detached, instance) > 60)
    detached.kill(detached.node)
    detached.up()
    outcome = ended(detached, instance)

    assert "complete" == outcome["state"], outcome
    result = outcome["result"]
    assert isinstance(result, dict)
    assert {"lost"} == set(result["failed"])
    assert UNITS == result["sent"] + len(result["failed"])
    sent = re.findall(r"sends (\d+)$", detached.controller.task_log(instance), re.MULTILINE)
    assert [] == [number for number, times in Counter(sent).items() if times > 1]
    told = [each["error"] for each in detached.controller.task_units(instance, state="failed")["workunits"]]
    assert all("never run again" in each for each in told)


@pytest.mark.parametrize("victim", ["worker", "node"])
def test_an_instance_is_not_run_again(detached: DetachedCluster, victim: str) -> None:
    """If its worker or its node is killed it has failed, in words; that of the master costs nothing."""
    instance = detached.controller.run_tasks(ONCE)
    worker = sending(detached)
    detached.kill(detached.master)
    detached.up()
    assert "running" == detached.controller.task_result(instance)["state"]
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        detached.kill(detached.node)
        detached.up()
    outcome = ended(detached, instance)
    assert "failed" == outcome["state"]
    assert "was lost and is never run again" in str(outcome["error"])


def test_no_two_are_alive(detached: DetachedCluster) -> None:
    """While the master is stopped, the node ends what is exclusive; the next attempt begins after that."""
    instance = detached.controller.run_tasks(ALONE, seconds="8")
    wait_until(lambda: "alive" in detached.controller.task_log(instance))
    os.kill(detached.master, signal.SIGSTOP)
    try:
        wait_until(lambda: not _workers_at_work(detached))
    finally:
        os.kill(detached.master, signal.SIGCONT)
    outcome = ended(detached, instance)
    assert "complete" == outcome["state"], outcome
    _was_alone(detached, instance)


@pytest.mark.parametrize("task", [ALONE, ALONE_UNIT])
def test_no_two_are_alive_though_a_node_stands_still(tmp_path: Path, task: str) -> None:
    """
    While the daemon of a node is stopped its launcher ends what is exclusive; another node does it then.
    """
    cluster = DetachedCluster(tmp_path / "c", "acceptance", task, 2, nodes=2, **LIMITS)
    try:
        cluster.up()
        # Much longer than the limit: nothing ends by itself before.
        instance = cluster.controller.run_tasks(task, seconds="9")
        wait_until(lambda: "alive" in cluster.controller.task_log(instance))
        [node] = [node for node in cluster.nodes if _workers_at_work(cluster, node)]
        [other] = set(cluster.nodes) - {node}
        os.kill(node, signal.SIGSTOP)
        try:
            wait_until(lambda: not _workers_at_work(cluster, node))
            assert psutil.STATUS_STOPPED == psutil.Process(node).status()
            if task == ALONE:
                wait_until(lambda: _workers_at_work(cluster, other))
                assert psutil.STATUS_STOPPED == psutil.Process(node).status()
        finally:
            os.kill(node, signal.SIGCONT)
        outcome = ended(cluster, instance)
        assert "complete" == outcome["state"], outcome
        _was_alone(cluster, instance)
        logs = "".join(path.read_text() for path in cluster.directory.glob("node*/logs/node.log"))
        assert "is exclusive, and is ended: the master did not answer for 3 s" in logs
        again = [cluster.controller.run_tasks(task, seconds="0.1") for _ in range(4)]
        assert {"complete"} == {ended(cluster, each)["state"] for each in again}
    finally:
        cluster.down()


def _was_alone(detached: DetachedCluster, instance: int) -> None:
    """There were two attempts, one after the other, by what they told themselves."""
    alive: dict[str, list[float]] = defaultdict(list)
    for name, at in re.findall(r"alive (\w+) ([\d.]+)", detached.controller.task_log(instance)):
        alive[name].append(float(at))
    spans = sorted((min(times), max(times)) for times in alive.values())
    assert 2 == len(spans)
    assert spans[0][1] < spans[1][0]


def _workers_at_work(detached: DetachedCluster, node: int = 0) -> list[int]:
    """Workers of the exclusive task on a node, by the name that they give themselves."""
    found = []
    for process in psutil.Process(node or detached.node).children(recursive=True):
        with suppress(psutil.Error):
            found += [process.pid] if process.name() == "alone" else []
    return found
