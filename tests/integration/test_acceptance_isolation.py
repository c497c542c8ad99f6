# SPDX-License-Identifier: MIT
"""What a task may do to others on a real cluster: nothing, and nothing of it is left behind (case P8)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pydra.cluster.controller import ControllerRemoteException
from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, running_cluster, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"
SETTLES = "acceptance.writes.Settles"

GOOD = """
from pydra.cluster.tasks import Task


class Good(Task):
    \"\"\"Runs what it is told.\"\"\"

    def work(self, code=""):
        exec(code, {})
        return "good"
"""

EXITS = "import os, sys\nsys.stdout.write('leaving')\nos._exit(0)\n"

KILLS = """
import os, signal

parent = os.getppid()
for pid in (parent, 1, -1, os.getpgid(0), *map(int, filter(str.isdigit, os.listdir("/proc")))):
    if pid != os.getpid():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
os.kill(os.getpid(), signal.SIGKILL)
"""

STOPS_PARENT = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with two workers, and a short grace between the stop flag and the kill."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    with running_cluster(directory, "--workers", "2", PYDRA_STOP_GRACE_S="1") as running:
        running.put_package("acceptance", PACKAGES / "acceptance")
        running.put_package("leaving", good=GOOD, exits=EXITS)
        running.put_package("killing", kills=KILLS, good=GOOD, other=GOOD, stops=STOPS_PARENT)
        running.wait_listed(SETTLES)
        running.wait_listed("leaving.good.Good")
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; what it left running is ended."""
    with cluster.controller() as connected:
        yield connected
        for each in connected.list_queue():
            connected.cancel_task(each["id"])
        wait_until(connected.list_queue, lambda left: not left)


def settled(controller: WebController) -> tuple[int, list[psutil.Process]]:
    """An instance that wrote and forked, and all its processes."""
    task_id: int = controller.run_tasks(SETTLES, children="3")
    wait_until(lambda: controller.task_log(task_id), lambda log: "settled and written" in log)
    processes = dwellers()
    assert len(processes) >= 4
    return task_id, processes


def dwellers() -> list[psutil.Process]:
    """The processes that work in the scratch of the one that settled."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [psutil.Process(pid) for pid in pids if os.path.exists(f"/proc/{pid}/cwd/mine")]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def worker_of(controller: WebController, task_id: int) -> str:
    """The name of the worker slot that runs it."""
    return str(controller.task_history_detail(task_id)["details"]["worker"])


def idle_slots(controller: WebController) -> int:
    """How many worker slots do nothing."""
    [node] = controller.node_status().values()
    return sum(worker == [1, -1, -1] for worker in node["workers"].values())


def test_another_instance_and_the_keys_are_out_of_reach(cluster: Cluster, controller: WebController) -> None:
    """A task finds neither the files, the processes nor the surroundings of one that runs beside it."""
    task_id, processes = settled(controller)
    scratch = os.readlink(f"/proc/{processes[0].pid}/cwd")
    secrets = [cluster.ready["key"], *map(str, cluster.directory.glob("*/identity.key"))]
    secrets += [
        *map(str, cluster.directory.glob("*/task_logs/*")),
        str(cluster.directory / "pydra_settings.py"),
    ]
    paths = [*secrets, f"{scratch}/mine", f"/proc/{processes[0].pid}/cwd/mine", "/etc/shadow"]
    answer = cluster.wait_final(controller.run_tasks("acceptance.writes.Looks", paths=paths), 60)

    assert (answer["state"], answer["result"]) == ("complete", [])
    assert len(secrets) >= 4
    assert controller.task_result(task_id)["state"] == "running"


@pytest.mark.parametrize(
    ("kill", "fail", "state", "error"),
    [
        (True, True, "failed", "Terminated by user"),
        (False, True, "failed", "Terminated by user"),
        (True, False, "cancelled", None),
        (False, False, "cancelled", None),
    ],
)
def test_kill_worker_leaves_no_process(
    cluster: Cluster, controller: WebController, kill: bool, fail: bool, state: str, error: str | None
) -> None:
    """At once, or after the grace; the slot is idle again."""
    task_id, processes = settled(controller)

    assert controller.kill_worker(worker_of(controller, task_id), kill=kill, fail=fail) is True
    answer = cluster.wait_final(task_id, 10)
    assert (answer["state"], answer["error"], answer["result"]) == (state, error, None)
    wait_until(lambda: alive(processes), lambda left: not left)
    assert dwellers() == []
    wait_until(lambda: idle_slots(controller), lambda idle: idle == 2)


def test_cancel_leaves_no_process(cluster: Cluster, controller: WebController) -> None:
    """As well."""
    task_id, processes = settled(controller)
    controller.cancel_task(task_id)

    assert cluster.wait_final(task_id, 10)["state"] == "cancelled"
    wait_until(lambda: alive(processes), lambda left: not left)
    assert dwellers() == []


def test_kill_worker_of_nothing(controller: WebController) -> None:
    """An idle worker is told apart from one that there is not."""
    [(node, status)] = controller.node_status().items()

    assert set(status["workers"]) == {f"{node}_0", f"{node}_1"}
    assert controller.kill_worker(f"{node}_0") is False
    for worker_key in ("", "nothing", f"{node}_2", "127.0.0.1:1:0", "x" * 5000):
        with pytest.raises(ControllerRemoteException) as raised:
            controller.kill_worker(worker_key)
        assert raised.value.remote_code == "not_found"


def test_a_package_that_exits_or_kills_harms_no_daemon(cluster: Cluster, controller: WebController) -> None:
    """
    Neither when it is described nor when it runs. Each such file hides nothing but itself, and says why.
    """
    daemons = [psutil.Process(pid) for pid in (cluster.master_pid, *cluster.node_pids)]
    packages = wait_until(
        lambda: {each["package"]: each for each in controller.package_list()},
        lambda found: found.keys() >= {"leaving", "killing"},
    )
    ends = [
        cluster.wait_final(controller.run_tasks("leaving.good.Good", code=code))["state"]
        for code in (EXITS, KILLS, "")
    ]

    assert packages["leaving"]["tasks"] == ["leaving.good.Good"]
    assert [each["file"] for each in packages["leaving"]["errors"]] == ["exits.py"]
    assert packages["killing"]["tasks"] == ["killing.good.Good", "killing.other.Good"]
    assert [each["file"] for each in packages["killing"]["errors"]] == ["kills.py", "stops.py"]
    assert all("ended its process" in each["message"] for each in packages["killing"]["errors"])
    assert ends == ["failed", "failed", "complete"]
    assert alive(daemons) == daemons
    assert idle_slots(controller) == 2
