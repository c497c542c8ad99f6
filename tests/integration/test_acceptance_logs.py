# SPDX-License-Identifier: MIT
"""What tasks write, and what ran before, on a real cluster of two nodes (case P11)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import PYDRA, Cluster, running_cluster, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"
WRITES = "acceptance.writes.Writes"
BEGINS = "acceptance.writes.Begins"
ROW = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}) (\w+) +(stdout|stderr|log): (.*)")
"""Within so many seconds after its end, the whole log of an instance is there, and nothing is on the node."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two workers each."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    with running_cluster(directory, "--nodes", "2", "--workers", "2") as running:
        running.put_package("acceptance", PACKAGES / "acceptance")
        running.put_package("hostile", PACKAGES / "hostile")
        running.wait_listed(WRITES)
        running.wait_listed("hostile.hostile_tasks.Flood")
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; what it left running is cancelled."""
    with cluster.controller() as connected:
        yield connected
        for each in connected.list_queue():
            connected.cancel_task(each["id"])
        wait_until(connected.list_queue, lambda left: not left)


def rows(log: str) -> list[tuple[float, str, str, str]]:
    """Time, level, stream and text of each line."""
    found = []
    for line in log.splitlines():
        match = ROW.fullmatch(line)
        assert match is not None, line
        at, level, stream, text = match.groups()
        found.append((datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp(), level, stream, text))
    return found


def held_by_nodes(cluster: Cluster) -> list[str]:
    """The files of logs that nodes have not delivered."""
    return [str(path) for path in cluster.directory.glob("node-*/task_logs/*")]


def begins(controller: WebController, lines: int, after: float) -> int:
    """An instance that has begun."""
    task_id: int = controller.run_tasks(BEGINS, lines=str(lines), after=str(after))
    wait_until(lambda: controller.task_log(task_id), lambda log: "begins" in log)
    return task_id


def test_each_instance_has_exactly_the_lines_that_it_wrote(
    cluster: Cluster, controller: WebController
) -> None:
    """
    By time, with levels and streams, stamped when they were written; within seconds after the end.

    What was collected is not on the nodes any more.
    """
    names = [f"name{number}" for number in range(8)]
    ids = [controller.run_tasks(WRITES, name=name, times="5") for name in names]
    for name, task_id in zip(names, ids, strict=True):
        assert cluster.wait_final(task_id)["state"] == "complete"
        log = wait_until(
            lambda task_id=task_id: rows(controller.task_log(task_id)),  # type: ignore[misc]  # mypy on defaults
            lambda found: len(found) == 15,
        )
        assert [(level, stream, text.partition(" at ")[0]) for _, level, stream, text in log] == [
            expected
            for number in range(5)
            for expected in (
                ("INFO", "stdout", f"{name} prints {number}"),
                ("ERROR", "stderr", f"{name} complains {number}"),
                ("WARNING", "log", f"{name} logs {number}"),
            )
        ]
        assert [at for at, *_ in log] == sorted(at for at, *_ in log)
        assert all(abs(at - float(text.partition(" at ")[2])) < 10 for at, _, _, text in log)
        assert len({at for at, *_ in log}) > 5, "times have no microseconds"
    nodes = {
        controller.task_history_detail(task_id)["details"]["worker"].rpartition(":")[0] for task_id in ids
    }
    assert len(nodes) == 2
    wait_until(lambda: held_by_nodes(cluster), lambda left: not left)


def test_the_children_of_a_container_write_into_its_log(cluster: Cluster, controller: WebController) -> None:
    """In the order in which they ran; of units that it does not have there is nothing."""
    task_id = controller.run_tasks("acceptance.writes.WritesTwice")
    cluster.wait_final(task_id)
    log = wait_until(lambda: rows(controller.task_log(task_id)), lambda found: len(found) >= 6)

    assert [stream for _, _, stream, _ in log] == ["stdout", "stderr", "log"] * 2
    assert controller.task_log(task_id, "Writes", 0) == ""
    assert controller.task_log(task_id, subtask="Writes") == ""


def test_lines_are_there_while_a_task_runs(controller: WebController) -> None:
    """A page from a position on; one who waits gets the next lines as they come."""
    task_id = begins(controller, lines=3, after=1.5)
    first = controller.task_lines(task_id)
    second = controller.task_lines(task_id, after=first["next"], wait=20)

    assert [text.partition(" ")[2] for *_, text in first["lines"]] == ["begins"]
    assert [text.partition(" ")[2] for *_, text in second["lines"]][:1] == ["line 0"]
    assert (first["final"], second["final"]) == (False, False)
    assert second["lines"][0][0] - first["lines"][0][0] > 1.4


def test_the_last_page_comes_with_the_last_line(cluster: Cluster, controller: WebController) -> None:
    """Who follows a task to its end has every line: it is not told as the end before they are there."""
    for _ in range(10):
        task_id = controller.run_tasks(WRITES, times="100")
        texts: list[str] = []
        answer = {"final": False, "more": False, "next": 0}
        while not answer["final"] or answer["more"]:
            answer = controller.task_lines(task_id, after=answer["next"], wait=20)
            texts += [line[3] for line in answer["lines"]]
        assert len(texts) == 300


def test_pydra_logs_follows_live_and_afterwards(cluster: Cluster, controller: WebController) -> None:
    """The same lines, chosen the same way, and it ends with the task."""
    task_id = begins(controller, lines=200, after=1.0)
    follow = [*PYDRA, "logs", str(task_id), "-f", "--stream", "stdout", "-o", "json"]
    env = cluster.env | {"PYDRA_SETTINGS": str(cluster.directory / "pydra_settings.py")}
    with subprocess.Popen(follow, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as live:
        wait_until(lambda: controller.task_log(task_id), lambda log: "waits" in log)
        controller.cancel_task(task_id)
        shown, _ = live.communicate(timeout=90)
    afterwards = cluster.pydra(*follow[len(PYDRA) :])
    tail = cluster.pydra("logs", str(task_id), "--tail", "1")

    records = [json.loads(line) for line in shown.splitlines()]
    texts = [record["text"].partition(" ")[2] for record in records]
    assert texts == ["begins", *(f"line {number}" for number in range(200)), "waits"]
    assert afterwards.stdout == shown.decode()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"]) for record in records)
    assert tail.stdout.rstrip().endswith("waits")


def test_a_flood_is_bounded_and_harms_nobody(cluster: Cluster, controller: WebController) -> None:
    """What was dropped is counted in the log, which can be read; the daemons go on."""
    task_id = controller.run_tasks(BEGINS, lines="200000", after="0")
    log = wait_until(lambda: controller.task_log(task_id), lambda log: "waits" in log or "dropped" in log)
    controller.cancel_task(task_id)
    cluster.wait_final(task_id)
    other = controller.run_tasks(WRITES)

    assert "lines were dropped]" in log
    assert cluster.wait_final(other)["state"] == "complete"
    wait_until(lambda: rows(controller.task_log(other)), lambda found: len(found) == 3)
    wait_until(lambda: held_by_nodes(cluster), lambda left: not left)


def test_history_of_25_instances(cluster: Cluster, controller: WebController) -> None:
    """Pages of ten, newest first; 0 and 999 are clipped; each has its details."""
    ids = [controller.run_tasks("acceptance.steps.Answers", size=str(number)) for number in range(25)]
    for task_id in ids:
        assert cluster.wait_final(task_id)["state"] == "complete"
    pages = {
        number: controller.task_history("acceptance.steps.Answers", number) for number in (0, 1, 2, 3, 999)
    }

    shown = [[each["id"] for each in pages[number]["instances"]] for number in (1, 2, 3)]
    assert shown == [ids[:14:-1], ids[14:4:-1], ids[4::-1]]
    assert pages[0] == pages[1]
    assert pages[999] == pages[3]
    assert [(page["prev"], page["page"], page["next"]) for page in pages.values()] == [
        (None, 1, 2),
        (None, 1, 2),
        (1, 2, 3),
        (2, 3, None),
        (2, 3, None),
    ]
    for number, task_id in enumerate(ids):
        details = controller.task_history_detail(task_id)["details"]
        assert (details["id"], details["status"]) == (task_id, 3)
        assert json.loads(details["args"]) == {"size": str(number)}
        assert details["results"] == {"text": "x" * number, "given": 0}
        assert details["queued"] <= details["started"] <= details["completed"]
