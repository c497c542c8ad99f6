# SPDX-License-Identifier: MIT
"""What `kill -9` of a daemon or worker costs a real cluster: nothing that was acknowledged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.daemons import wait_until
from tests.support.detached_cluster import DetachedCluster

SLEEPS = "acceptance.steps.Sleeps"
ANSWERS = "acceptance.steps.Answers"


class Sleepers(DetachedCluster):
    """A cluster with one worker slot, in which tasks sleep."""

    def run_sleeper(self, seconds: float) -> int:
        """An instance that runs, as its first line shows."""
        instance: int = self.controller.run_tasks(SLEEPS, seconds=str(seconds))
        wait_until(lambda: self.controller.task_log(instance), lambda log: "asleep" in log)
        return instance

    def wait_journal(self, result: bytes) -> None:
        """Wait until the node has kept a result."""
        journal = self.directory / "node-1" / "outbox" / "journal"
        wait_until(lambda: result in journal.read_bytes(), what="the result in the journal")

    def outcome(self, instance: int) -> tuple[str, object, int]:
        """State, result, and how often the task began."""
        answer = wait_until(lambda: self.controller.task_result(instance), lambda found: found["final"])
        return answer["state"], answer["result"], self.controller.task_log(instance).count("asleep")


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Sleepers]:
    """One node with one worker slot."""
    cluster = Sleepers(tmp_path / "c", "acceptance", SLEEPS)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def test_a_killed_master_loses_no_instance_and_stops_none(detached: Sleepers) -> None:
    """What waited runs afterwards; what ran goes on in the same process, and its result is taken."""
    running = detached.run_sleeper(6)
    waiting = [detached.controller.run_tasks(ANSWERS, size=str(size)) for size in range(5)]
    detached.kill(detached.master)
    detached.up()

    assert detached.outcome(running) == ("complete", "slept", 1)
    assert [detached.outcome(each)[0] for each in waiting] == ["complete"] * 5


def test_a_result_made_while_the_master_was_away_is_recorded(detached: Sleepers) -> None:
    """The node keeps it until the master says that it is recorded."""
    running = detached.run_sleeper(1)
    detached.kill(detached.master)
    detached.wait_journal(b"slept")
    detached.up()

    assert detached.outcome(running) == ("complete", "slept", 1)


def test_a_result_outlives_the_node_that_made_it(detached: Sleepers) -> None:
    """It is in the journal of the node: a master that was away gets it from the next daemon there."""
    running = detached.run_sleeper(1)
    detached.kill(detached.master)
    detached.wait_journal(b"slept")
    detached.kill(detached.node)
    detached.up()

    assert detached.outcome(running) == ("complete", "slept", 1)


def test_a_killed_node_leaves_no_process_and_its_work_is_done_again(detached: Sleepers) -> None:
    """The new daemon says that it holds nothing, so nobody waits for the lease."""
    running = detached.run_sleeper(3)
    below = psutil.Process(detached.node).children(recursive=True)
    detached.kill(detached.node)
    wait_until(
        lambda: [each for each in below if each.is_running() and each.status() != "zombie"],
        lambda left: not left,
    )
    detached.up()

    assert len(below) >= 3
    assert detached.outcome(running) == ("complete", "slept", 2)


def test_a_killed_node_is_shown_as_away_and_takes_work_when_it_is_back(detached: Sleepers) -> None:
    """Its status is 0 once its lease is over; it is linked again after its start."""

    def status() -> int:
        [node] = detached.controller.node_status().values()
        return int(node["status"])

    assert status() == 1
    detached.kill(detached.node)
    wait_until(status, lambda seen: seen == 0)
    detached.up()
    wait_until(status, lambda seen: seen == 1)

    assert detached.outcome(detached.run_sleeper(0.1)) == ("complete", "slept", 1)


def test_a_killed_worker_is_replaced_and_its_work_done_again(detached: Sleepers) -> None:
    """The instance ends complete, on its second attempt."""
    running = detached.run_sleeper(2)
    for process in psutil.Process(detached.node).children(recursive=True):
        if not process.children() and process.name().startswith("python"):
            process.kill()

    assert detached.outcome(running) == ("complete", "slept", 2)


def test_the_same_request_key_is_the_same_instance_after_a_restart(detached: Sleepers) -> None:
    """A client that does not know whether its submission arrived may repeat it to the new master."""
    key = "fedcba9876543210fedcba9876543210"
    first = detached.controller.queue_task(ANSWERS, {}, request_key=key)
    detached.kill(detached.master)
    detached.up()

    assert detached.controller.queue_task(ANSWERS, {}, request_key=key)["instance_id"] == first["instance_id"]


BEGINS = "acceptance.writes.Begins"
LINES = 18_000
"""More than may be under way to the master, and less than is dropped as too much in a second."""


def begun(detached: Sleepers) -> int:
    """An instance that has begun, and will write many lines in 2 s."""
    instance: int = detached.controller.run_tasks(BEGINS, lines=str(LINES), after="2")
    wait_until(lambda: detached.controller.task_log(instance), lambda log: "begins" in log)
    return instance


def lines_by_run(log: str) -> dict[str, list[str]]:
    """What each run of the task wrote, in order; a run is known by the name that it gave itself."""
    runs: dict[str, list[str]] = {}
    for line in log.splitlines():
        _, is_print, text = line.partition("stdout: ")
        if is_print:
            name, _, rest = text.partition(" ")
            runs.setdefault(name, []).append(rest)
    return runs


def test_lines_of_a_killed_node_are_delivered(detached: Sleepers) -> None:
    """While the master did not listen they were in a file; then each is archived once, and in order."""
    instance = begun(detached)
    os.kill(detached.master, signal.SIGSTOP)
    try:
        held = detached.directory / "node-1" / "task_logs"
        last = f"line {LINES - 1}".encode()
        wait_until(lambda: [path for path in held.iterdir() if last in path.read_bytes()])
        detached.kill(detached.node)
    finally:
        os.kill(detached.master, signal.SIGCONT)
    detached.up()
    log = wait_until(
        lambda: detached.controller.task_log(instance), lambda log: "Attempt 2 begins." in log, 60
    )
    detached.controller.cancel_task(instance)
    detached.outcome(instance)

    first = next(iter(lines_by_run(log).values()))
    assert [text for text in first if text.startswith("line")] == [f"line {n}" for n in range(LINES)]
    wait_until(lambda: list(held.iterdir()), lambda left: not left)


def test_lines_are_archived_once_whatever_happens_to_the_master(detached: Sleepers) -> None:
    """It is killed while they come, and started again."""
    instance = begun(detached)
    time.sleep(1.9)  # noqa: TID251 - the lines come about now
    detached.kill(detached.master)
    detached.up()
    wait_until(lambda: detached.controller.task_log(instance), lambda log: "waits" in log)
    detached.controller.cancel_task(instance)
    detached.outcome(instance)

    [run] = lines_by_run(detached.controller.task_log(instance)).values()
    assert run == ["begins", *(f"line {n}" for n in range(LINES)), "waits"]
