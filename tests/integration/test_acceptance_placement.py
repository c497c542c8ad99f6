# SPDX-License-Identifier: MIT
"""Where and when instances run on a real cluster: labels, resources, dependencies, retries, limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.client import Client
from pydra.cluster.controller import ControllerRemoteException
from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, running_cluster, wait_until
from tests.support.detached_cluster import DetachedCluster

PACKAGES = Path(__file__).parent.parent / "packages"
SLEEPS = "acceptance.steps.Sleeps"
ANSWERS = "acceptance.steps.Answers"
REFUSES = "acceptance.steps.Refuses"
FIRST, SECOND = {"labels": ["node-1"]}, {"labels": ["node-2"]}

SHORT = """
from pydra.cluster.tasks import Task


class Short(Task):
    time_limit = 1.0

    def work(self, seconds="600"):
        import time
        time.sleep(float(seconds))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two workers each; each offers a gpu."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    with running_cluster(
        directory, "--nodes", "2", "--workers", "2", PYDRA_RESOURCES='{"gpus": 1}', PYDRA_PLACEMENT="twobin"
    ) as running:
        running.put_package("acceptance", PACKAGES / "acceptance")
        running.put_package("short", short=SHORT)
        running.wait_listed(SLEEPS)
        running.wait_listed("short.short.Short")
        with running.controller() as controller:
            wait_until(controller.cluster_info, lambda found: found["connected"] == 2)
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; what it left running is ended."""
    with cluster.controller() as connected:
        yield connected
        for each in connected.list_queue():
            connected.cancel_task(each["id"])
            if each["worker"] and each["state"] != "queued":
                connected.kill_worker(each["worker"], True, False)
        wait_until(connected.list_queue, lambda left: not left)


def submit(controller: WebController, key: str, options: dict[str, Any], **args: str) -> int:
    """The id of a new instance."""
    answer = controller.queue_task(key, args, options=options)
    assert "errors" not in answer, answer
    return int(answer["instance_id"])


def begun(controller: WebController, instance: int) -> int:
    """The same id, once it sleeps."""
    wait_until(lambda: controller.task_log(instance), lambda log: "asleep" in log)
    return instance


def labels_of(controller: WebController, instance: int) -> list[str]:
    """Those of the node that an instance is or was on."""
    host, port, _ = controller.task_history_detail(instance)["details"]["worker"].split(":")
    nodes = controller.node_list()[0]
    return next(node["labels"] for node in nodes if (node["host"], node["port"]) == (host, int(port)))


def test_labels_choose_the_node(cluster: Cluster, controller: WebController) -> None:
    """Every instance runs where its label is; one whose label is nowhere waits, and blocks nobody."""
    nowhere = submit(controller, ANSWERS, {"labels": ["moon"], "priority": 1})
    asked = [FIRST, SECOND] * 4
    ran = [submit(controller, ANSWERS, options) for options in asked]
    for instance, options in zip(ran, asked, strict=True):
        assert cluster.wait_final(instance)["state"] == "complete"
        assert labels_of(controller, instance) == options["labels"]

    found = controller.explain(nowhere)
    assert (found["state"], found["text"]) == ("queued", "It waits: no ready node meets what it asks for.")
    assert [node["reason"] for node in found["nodes"]] == ["lacks the label moon"] * 2
    shown = cluster.pydra("explain", str(nowhere))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("lacks the label moon") == 2
    assert json.loads(cluster.pydra("explain", str(nowhere), "-o", "json").stdout)["ahead"] == 0


def test_resources_are_counted(cluster: Cluster, controller: WebController) -> None:
    """Of two that want the one gpu of a node the second waits until the first ends, while a slot is free."""
    wish = {**FIRST, "resources": {"gpus": 1}}
    first = begun(controller, submit(controller, SLEEPS, wish, seconds="600"))
    second = submit(controller, ANSWERS, wish)
    reasons = {node["reason"] for node in controller.explain(second)["nodes"]}
    assert reasons == {"has 0 gpus left of 1, not 1", "lacks the label node-1"}
    [held] = [node for node in controller.node_list()[0] if node["labels"] == ["node-1"]]
    assert held["resources"]["gpus"] == {"offered": 1.0, "held": 1.0}
    assert "gpus 1/1" in cluster.pydra("status").stdout

    assert controller.kill_worker(controller.task_history_detail(first)["details"]["worker"], True, False)
    assert cluster.wait_final(second)["state"] == "complete"


def test_after_and_follow(cluster: Cluster, controller: WebController) -> None:
    """One begins when the other has ended, some where it ran; what can be met no more fails in words."""
    first = begun(controller, submit(controller, SLEEPS, SECOND, seconds="6"))
    after = submit(controller, ANSWERS, {"after": first})
    followers = [submit(controller, ANSWERS, {"follow": first}) for _ in range(4)]
    never = submit(controller, ANSWERS, {"after": {"instances": [first], "success": False, "failure": True}})
    waits = controller.explain(after)
    assert waits["text"] == f"It waits until task instance {first} ends."
    assert waits["dependencies"] == [{"kind": "after", "id": first, "state": "running", "met": False}]
    command = ("run", ANSWERS, "--after", str(first), "-o", "json")
    told = json.loads(cluster.pydra(*command).stdout)["id"]

    assert cluster.wait_final(first)["state"] == "complete"
    assert [cluster.wait_final(each)["state"] for each in (after, told, *followers)] == ["complete"] * 6
    assert [labels_of(controller, each) for each in followers] == [["node-2"]] * 4
    failed = cluster.wait_final(never)
    why = f"It cannot run: task instance {first} completed, and it runs only if that failed."
    assert (failed["state"], failed["error_code"], failed["error"]) == ("failed", "dependency", why)
    late = cluster.wait_final(submit(controller, ANSWERS, {"after": [first, never]}))
    assert (late["state"], late["error_code"]) == ("failed", "dependency")


def test_what_cannot_be_asked_for(cluster: Cluster, controller: WebController) -> None:
    """It is refused by field; nothing is queued."""
    told = controller.queue_task(ANSWERS, {}, options={"after": 999_999, "priority": "x"})["errors"]
    assert told == {"options.priority": ["a whole number from -1000000 to 1000000 is needed."]}
    told = controller.queue_task(ANSWERS, {}, options={"after": 999_999})["errors"]
    assert told == {"options.after": ["there is no task instance 999999."]}
    with pytest.raises(ControllerRemoteException):
        controller.run_tasks(ANSWERS, {"labels": 5})
    refused = cluster.pydra("run", ANSWERS, "--follow", "999999")
    assert (refused.returncode, "there is no task instance 999999" in refused.stderr) == (2, True)
    assert controller.list_queue() == []


def test_retries_and_limits(cluster: Cluster, controller: WebController) -> None:
    """A failure is shown while its retry waits; a time limit ends by force, and is not retried."""
    rests = submit(controller, REFUSES, {"retries": 1, "retry_delay": 600})
    resting = wait_until(lambda: controller.task_result(rests), lambda found: found["error"])
    assert (resting["state"], resting["error"]) == ("queued", "ValueError: refused []")
    assert "It failed, and rests before retry 1 of 1." in controller.explain(rests)["text"]
    again = submit(controller, REFUSES, {"retries": 1, "retry_delay": 0.1})
    assert cluster.wait_final(again)["state"] == "failed"
    assert controller.explain(again)["retry_in"] is None

    limited = submit(controller, SLEEPS, {"time_limit": 1, "retries": 3}, seconds="600")
    by_class = submit(controller, "short.short.Short", {})
    longer = submit(controller, "short.short.Short", {"time_limit": 60}, seconds="2")
    ends = [cluster.wait_final(each) for each in (limited, by_class, longer)]
    assert [end["error_code"] for end in ends] == ["limit", "limit", None]
    assert ends[0]["error"] == "It ran for longer than its time limit of 1 s."


def test_a_program_uses_all_of_it(cluster: Cluster, controller: WebController) -> None:
    """The client takes options and instances, explains, pauses and resumes."""
    with Client(cluster.host, cluster.port, cluster.ready["key"]) as client:
        first = client.submit(ANSWERS, options=SECOND)
        second = client.submit(ANSWERS, options={"follow": [first], "labels": "moon"})
        assert first.result() == {"text": "", "given": 0}
        wait_until(second.explain, lambda found: found["nodes"])
        second.pause()
        assert second.state()["state"] == "paused"
        assert cluster.pydra("resume", str(second.id)).returncode == 0
        assert second.state()["state"] == "queued"
        running = client.submit(SLEEPS, {"seconds": "600"})
        begun(controller, running.id)
        with pytest.raises(ControllerRemoteException, match="asked for no units"):
            running.pause()
        refused = cluster.pydra("pause", str(running.id))
        assert (refused.returncode, "asked for no units" in refused.stderr) == (1, True)


def test_dependencies_hold_after_a_killed_master(tmp_path: Path) -> None:
    """What waited for one that ran meanwhile runs, and where it is to; so does what waited for a retry."""
    detached = DetachedCluster(tmp_path / "c", "acceptance", SLEEPS, workers=2)
    try:
        detached.up()
        controller = detached.controller
        ended = submit(controller, ANSWERS, {})
        wait_until(lambda: controller.task_result(ended), lambda found: found["final"])
        running = begun(controller, submit(controller, SLEEPS, {}, seconds="6"))
        waiting = submit(controller, ANSWERS, {"after": [ended, running], "follow": ended})
        resting = submit(controller, REFUSES, {"retries": 1, "retry_delay": 5})
        wait_until(lambda: controller.task_result(resting), lambda found: found["error"])
        detached.kill(detached.master)
        detached.up()
        controller = detached.controller
        outcomes = [
            wait_until(lambda each=each: controller.task_result(each), lambda found: found["final"])
            for each in (running, waiting, resting)
        ]
        assert [found["state"] for found in outcomes] == ["complete", "complete", "failed"]
    finally:
        detached.down()
