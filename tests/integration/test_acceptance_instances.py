# SPDX-License-Identifier: MIT
"""What becomes of instances on a real cluster: cancel, containers, faults, packages (cases P4, P5, P7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import EXAMPLES, Cluster, running_cluster, wait_until

WHICH = '''
import time

from pydra.cluster.tasks import Task


class Which(Task):
    """Answers which version it is."""

    def work(self, wait="0"):
        time.sleep(float(wait))
        return "old"
'''

HELLO = """
import hello.sibling
import sibling
from hello_base import base
from . import sibling as third
from pydra.cluster.tasks import Task


class Hello(Task):
    def work(self):
        return [hello.sibling.x, sibling.x, third.x, base.y]
"""

PACKAGES = Path(__file__).parent.parent / "packages"
COUNT = "demo.demo_task.TestTask"
SLEEPS = "acceptance.steps.Sleeps"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with two workers, and a short grace between the stop flag and the kill."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    with running_cluster(directory, "--workers", "2", PYDRA_STOP_GRACE_S="2") as running:
        running.put_package("demo", EXAMPLES / "demo")
        for name in ("acceptance", "broken", "failing", "hostile"):
            running.put_package(name, PACKAGES / name)
        running.put_package("hello_base", base="y = 2\n", hello_base="")
        running.put_package("hello", hello=HELLO, sibling="x = 1\n")
        (running.tasks / "hello" / "META").write_text("Depends = hello_base\n")
        for task in (
            COUNT,
            SLEEPS,
            "broken.good.GoodTask",
            "failing.fail_tasks.FailTask",
            "hostile.hostile_tasks.Flood",
        ):
            running.wait_listed(task)
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; what it left running is cancelled."""
    with cluster.controller() as connected:
        yield connected
        for each in connected.list_queue():
            connected.cancel_task(each["id"])
        wait_until(connected.list_queue, lambda left: not left)


def wait_running(controller: WebController, task_id: int, text: str = "") -> None:
    """Wait until the task has written this (or, by default, has been dispatched)."""
    if text:
        wait_until(lambda: controller.task_log(task_id), lambda log: text in log)
    else:
        wait_until(controller.list_running, lambda found: task_id in {each["id"] for each in found})


def idle_slots(controller: WebController) -> int:
    """How many worker slots do nothing."""
    [node] = controller.node_status().values()
    return sum(worker == [1, -1, -1] for worker in node["workers"].values())


def test_cancelling_a_queued_instance_is_final_at_once(controller: WebController) -> None:
    """With all slots taken, it never ran."""
    for _ in range(2):
        wait_running(controller, controller.run_tasks(SLEEPS, seconds="600"))
    queued = controller.run_tasks(SLEEPS, seconds="600")

    assert controller.cancel_task(queued) is True
    answer = controller.task_result(queued)
    assert (answer["state"], answer["status"], answer["result"]) == ("cancelled", -2, None)
    assert controller.task_history_detail(queued)["details"]["started"] is None


def test_a_task_that_honours_the_flag_is_cancelled(cluster: Cluster, controller: WebController) -> None:
    """And its slot is idle again."""
    task_id = controller.run_tasks(COUNT, start=0, end=600)
    wait_running(controller, task_id, "counted to 1")

    assert controller.cancel_task(task_key=task_id) is True
    assert cluster.wait_final(task_id)["state"] == "cancelled"
    assert idle_slots(controller) == 2


def test_a_task_that_ignores_the_flag_is_killed_after_the_grace(
    cluster: Cluster, controller: WebController
) -> None:
    """With every process that it started, whatever these ignore."""
    task_id = controller.run_tasks("acceptance.steps.ForksAndSleeps", children="5")
    wait_running(controller, task_id, "forked")
    before = forked_tree(cluster)

    assert controller.cancel_task(task_id) is True
    assert controller.task_result(task_id)["final"] is False
    assert cluster.wait_final(task_id)["state"] == "cancelled"
    wait_until(lambda: alive(before), lambda left: not left)
    assert idle_slots(controller) == 2


def test_many_are_cancelled_at_once(cluster: Cluster, controller: WebController) -> None:
    """All that waited never ran, what ran ends too, and nothing of it comes later."""
    many = [controller.run_tasks(SLEEPS, seconds="600") for _ in range(200)]
    for each in many[:2]:
        wait_running(controller, each, "asleep")
    cancelled = cluster.pydra("cancel", *map(str, many))
    assert cancelled.returncode == 0, cancelled.stderr
    wait_until(controller.list_queue, lambda left: not left)
    outcomes = [controller.task_result(each) for each in many]
    assert {(each["state"], each["result"]) for each in outcomes} == {("cancelled", None)}
    started = [controller.task_history_detail(each)["details"]["started"] for each in many]
    assert all(started[:2])
    assert not any(started[2:])
    wait_until(lambda: idle_slots(controller), lambda idle: idle == 2)


def forked_tree(cluster: Cluster) -> list[psutil.Process]:
    """The one worker below the node that forked, and its children."""
    [node] = cluster.node_pids
    below = [
        each for launcher in psutil.Process(node).children() for each in launcher.children(recursive=True)
    ]
    [worker] = [each for each in below if len(each.children()) >= 5]
    return [worker, *worker.children()]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_cancelling_twice_or_something_unknown_harms_nothing(
    cluster: Cluster, controller: WebController
) -> None:
    """Unknown and complete answer false, cancelled answers true."""
    done = controller.run_tasks("acceptance.steps.Answers")
    cluster.wait_final(done)
    gone = controller.run_tasks(SLEEPS)
    controller.cancel_task(gone)
    cluster.wait_final(gone)

    assert controller.cancel_task(10**12) is False
    assert controller.cancel_task(done) is False
    assert controller.cancel_task(gone) is True


def test_a_container_tells_weighted_progress_and_hands_results_on(
    cluster: Cluster, controller: WebController
) -> None:
    """80, then 10 and 10; the result of a child is the arguments of the next."""
    task_id = controller.run_tasks("acceptance.steps.Steps", seed="s")
    seen: list[int] = []
    answer: dict[str, Any] = {"final": False, "seen": -1}  # the API's object
    while not answer["final"]:
        answer = controller.wait_task(task_id, seen=answer["seen"])
        seen.append(answer["percent"])

    assert answer["result"] == {"seed": "s", "step_1": "first", "step_2": "second", "step_3": "third"}
    assert seen == sorted(seen)
    assert [value for value in seen if 0 < value < 80]
    assert [value for value in seen if 80 <= value < 90]
    assert [value for value in seen if 90 <= value < 100]
    assert seen[-1] == 100
    assert cluster.wait_final(task_id)["percent"] == 100


def test_a_container_whose_weights_are_all_given_completes(
    cluster: Cluster, controller: WebController
) -> None:
    """Nothing is left to divide."""
    assert cluster.wait_final(controller.run_tasks("acceptance.steps.AllExplicit"))["state"] == "complete"


def test_a_failing_child_fails_the_container(cluster: Cluster, controller: WebController) -> None:
    """With the traceback in the results."""
    task_id = controller.run_tasks("acceptance.steps.SecondRefuses")
    answer = cluster.wait_final(task_id)

    assert (answer["state"], answer["status"]) == ("failed", -1)
    assert "refused" in answer["error"]
    assert "ValueError" in controller.task_history_detail(task_id)["details"]["results"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("failing.fail_tasks.FailTask", ""),
        ("failing.fail_tasks.ExitTask", "sys.exit"),
        ("hostile.hostile_tasks.Unencodable", ""),
        ("hostile.hostile_tasks.Cyclic", ""),
        ("hostile.hostile_tasks.KillsItself", "lost its worker 3 times"),
        ("hostile.hostile_tasks.LeavesAtOnce", "lost its worker 3 times"),
        ("hostile.hostile_tasks.DeepRecursion", "RecursionError"),
    ],
)
def test_what_a_task_does_wrong_is_an_error_on_that_instance_alone(
    cluster: Cluster, controller: WebController, task: str, words: str
) -> None:
    """It fails in words, its slot is free again, and the next task runs."""
    answer = cluster.wait_final(controller.run_tasks(task))
    after = cluster.wait_final(controller.run_tasks("acceptance.steps.Answers"))

    assert answer["state"] == "failed"
    assert answer["error"]
    assert words in answer["error"]
    assert after["state"] == "complete"
    assert idle_slots(controller) == 2


def test_large_arguments_and_results_travel_by_bulk(cluster: Cluster, controller: WebController) -> None:
    """Half a megabyte there, three back, which are fetched for themselves."""
    task_id = controller.run_tasks("acceptance.steps.Answers", size="3000000", data="y" * 500_000)
    answer = cluster.wait_final(task_id)

    assert answer["state"] == "complete", answer["error"]
    assert answer["result"] is None
    assert answer["size"] > 3_000_000
    assert controller.fetch_result(task_id) == {"text": "x" * 3_000_000, "given": 500_000}


def test_a_task_cannot_read_keys_or_other_tasks(cluster: Cluster, controller: WebController) -> None:
    """Neither by the paths of the host nor by those of the daemons."""
    for path in (
        cluster.ready["key"],
        str(cluster.directory / "node-1" / "identity.key"),
        "/run/pydra/view/runtime/identity.key",
        "/etc/shadow",
    ):
        answer = cluster.wait_final(controller.run_tasks("acceptance.steps.Reads", path=path))
        assert answer["state"] == "failed", path


def test_a_broken_file_hides_only_itself_and_says_why(controller: WebController) -> None:
    """The good ones of the same package are listed, the broken ones named with their reasons."""
    [package] = [each for each in controller.package_list() if each["package"] == "broken"]
    errors = {error["file"]: error["message"] for error in package["errors"]}

    assert "broken.good.GoodTask" in package["tasks"]
    assert {"construct.py", "exits.py", "kills.py", "missing_import.py"} <= set(errors)
    assert all(errors.values())


def test_an_edit_makes_a_new_version_and_running_instances_keep_theirs(
    cluster: Cluster, controller: WebController
) -> None:
    """The node's cache, empty before, then holds both; a rename alone is a new version too."""
    old = WHICH
    cache = cluster.directory / "node-1" / "packages" / "edited"
    cluster.put_package("edited", which=old)
    cluster.wait_listed("edited.which.Which")
    assert not cache.exists()
    first = cluster.wait_final(controller.run_tasks("edited.which.Which"))
    slow = controller.run_tasks("edited.which.Which", wait="4")
    wait_running(controller, slow)
    before = package_version(controller)
    cluster.put_package("edited", which=old.replace("old", "new"))
    wait_until(lambda: package_version(controller), lambda version: version != before)
    second = cluster.wait_final(controller.run_tasks("edited.which.Which"))
    middle = package_version(controller)
    (cluster.tasks / "edited" / "which.py").rename(cluster.tasks / "edited" / "renamed.py")
    wait_until(lambda: package_version(controller), lambda version: version != middle)

    assert first["result"] == "old"
    assert second["result"] == "new"
    assert cluster.wait_final(slow)["result"] == "old"
    assert {before, middle} <= {version.name for version in cache.iterdir()}
    assert "edited.renamed.Which" in controller.list_tasks()


def test_a_file_named_as_its_package(cluster: Cluster, controller: WebController) -> None:
    """It is found and runs, beside its siblings and with a dependency that has a file of its own name too."""
    cluster.wait_listed("hello.hello.Hello")

    answer = cluster.wait_final(controller.run_tasks("hello.hello.Hello"))
    assert answer["result"] == [1, 1, 1, 2], answer


def package_version(controller: WebController) -> str:
    """The current version of the edited package."""
    [package] = [each for each in controller.package_list() if each["package"] == "edited"]
    return str(package["version"])
