# SPDX-License-Identifier: MIT
"""The controller documentation's promises, kept by a real cluster (cases P1 to P3)."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller import ControllerException, ControllerRemoteException
from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import EXAMPLES, Cluster, environment, running_cluster, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"
KEY = "demo.demo_task.TestTask"

SNIPPET = """
from pydra.config import load_settings
pydra_settings = load_settings()
host = pydra_settings.HOST
port = pydra_settings.CONTROLLER_PORT
from pydra.cluster.controller.web.controller import WebController
controller = WebController(host, port)
tasks = controller.list_tasks()
task_id = controller.run_tasks('demo.demo_task.TestTask', start=0, end=3)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with two workers, the demo package, tasks with and without forms."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "c", "--workers", "2") as running:
        running.put_package("demo", EXAMPLES / "demo")
        for name in ("plain", "failing", "formed"):
            running.put_package(name, PACKAGES / name)
        for task in (KEY, "plain.plain_tasks.MyTask", "formed.formed_tasks.Answering"):
            running.wait_listed(task)
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A client that is logged in when it has to be."""
    with cluster.controller() as connected:
        yield connected


def test_the_documented_snippet_works_word_for_word(cluster: Cluster) -> None:
    """In the directory of master.key, nothing is to be configured and nobody logs in by hand."""
    told = "import json; print(json.dumps([tasks, task_id, type(task_id).__name__]))"
    env = {name: value for name, value in environment().items() if name != "PYDRA_SETTINGS"}
    run = subprocess.run(
        [sys.executable, "-c", SNIPPET + told],
        cwd=cluster.directory,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    tasks, task_id, kind = json.loads(run.stdout)
    assert kind == "int"
    assert KEY in list(tasks)
    for task in tasks.values():
        assert set(task) == {"description", "last_run", "form"}
        assert task["last_run"] is None or isinstance(task["last_run"], float)
        assert task["form"] is None or isinstance(task["form"], str)
    assert "<input" in tasks[KEY]["form"]
    assert cluster.wait_final(task_id)["result"] == {"start": 3}


def test_run_tasks_answers_an_id_that_the_lists_and_the_history_know(
    cluster: Cluster, controller: WebController
) -> None:
    """A task without a form takes any argument; its args are what was given."""
    task_id = controller.run_tasks("plain.plain_tasks.MyTask", foo="bar")

    assert isinstance(task_id, int)
    assert cluster.wait_final(task_id)["result"] == {"foo": "bar"}
    page = controller.task_history("plain.plain_tasks.MyTask", 1)
    [instance] = [each for each in page["instances"] if each["id"] == task_id]
    assert json.loads(instance["args"]) == {"foo": "bar"}
    assert instance["status"] == 3


def test_queue_task_answers_key_id_and_time(cluster: Cluster, controller: WebController) -> None:
    """While it waits or runs it is in list_queue, with times as documented."""
    answer = controller.queue_task(KEY, {"start": "0", "end": "3"})

    assert set(answer) == {"task_key", "instance_id", "time"}
    assert answer["task_key"] == KEY
    [listed] = [each for each in controller.list_queue() if each["id"] == answer["instance_id"]]
    assert {"id", "task_key", "status", "args", "queued", "started", "completed", "results"} <= set(listed)
    assert len(listed["queued"]) == len("2026-01-01 00:00:00")
    assert json.loads(listed["args"]) == {"start": 0, "end": 3}
    running = wait_until(
        controller.list_running, lambda found: answer["instance_id"] in {e["id"] for e in found}
    )
    assert running
    statuses = controller.task_statuses()[str(answer["instance_id"])]
    assert statuses["s"] == 1
    assert statuses["t"] > 1e9
    assert -1 <= statuses["p"] <= 100
    assert cluster.wait_final(answer["instance_id"])["result"] == {"start": 3}


@pytest.mark.parametrize("arguments", [{"start": "abc"}, {}, {"start": 1, "nonsense": 2}])
def test_arguments_that_the_form_refuses_queue_nothing(
    controller: WebController, arguments: dict[str, object]
) -> None:
    """queue_task answers the errors by field, run_tasks raises them; a missing required field is one."""
    before = controller.list_recent(1)
    answer = controller.queue_task(KEY, arguments)
    with pytest.raises(ControllerRemoteException) as raised:
        controller.run_tasks(KEY, **arguments)

    assert set(answer) == {"task_key", "errors"}
    assert raised.value.code == -3
    assert raised.value.error == answer["errors"]
    assert all(texts and all(isinstance(text, str) for text in texts) for texts in answer["errors"].values())
    assert controller.list_recent(1) == before


def test_a_form_with_code_of_its_own_is_asked_in_its_sandbox(
    cluster: Cluster, controller: WebController
) -> None:
    """clean() decides, and what it returns is what the task gets."""
    refused = controller.queue_task("formed.formed_tasks.Cleaning", {"start": 5, "end": 1})
    accepted = controller.queue_task("formed.formed_tasks.Cleaning", {"start": 1, "end": 5})

    assert "errors" in refused
    assert cluster.wait_final(accepted["instance_id"])["state"] == "complete"


def test_a_form_whose_code_crashes_refuses_and_harms_nothing(controller: WebController) -> None:
    """The answer is an error by words, and the next call works."""
    assert "errors" in controller.queue_task("formed.formed_tasks.Crashing", {"name": "x"})
    assert KEY in controller.list_tasks()


def test_a_repeated_submission_with_the_same_key_is_one_instance(controller: WebController) -> None:
    """An unknown outcome may be asked for again without running twice."""
    first = controller.queue_task(
        "plain.plain_tasks.Zero", {}, request_key="0123456789abcdef0123456789abcdef"
    )
    second = controller.queue_task(
        "plain.plain_tasks.Zero", {}, request_key="0123456789abcdef0123456789abcdef"
    )

    assert first["instance_id"] == second["instance_id"]


def test_a_falsy_result_is_a_result(cluster: Cluster, controller: WebController) -> None:
    """Zero is kept and shown as zero."""
    task_id = controller.run_tasks("plain.plain_tasks.Zero")

    assert cluster.wait_final(task_id)["result"] == 0
    assert controller.task_history_detail(task_id)["details"]["results"] == 0


def test_history_is_in_pages_of_ten_newest_first(cluster: Cluster, controller: WebController) -> None:
    """Pages out of range are clipped."""
    ids = [controller.run_tasks("plain.plain_tasks.Greeting", name=str(number)) for number in range(12)]
    for task_id in ids:
        cluster.wait_final(task_id)

    first = controller.task_history("plain.plain_tasks.Greeting", 0)
    last = controller.task_history("plain.plain_tasks.Greeting", 999)

    assert [each["id"] for each in first["instances"]] == sorted(ids, reverse=True)[:10]
    assert (first["prev"], first["page"], first["next"]) == (None, 1, 2)
    assert (last["prev"], last["page"], last["next"]) == (1, 2, None)
    detail = controller.task_history_detail(task_instance_id=ids[0])
    assert detail["name"] == "plain.plain_tasks.Greeting"
    assert detail["workunits"] == []
    assert "hello 0" in controller.task_log(ids[0])
    assert controller.task_history_detail(10**9) is None


def test_nodes_are_listed_detailed_and_their_workers_shown(controller: WebController) -> None:
    """node_list is a pair, node_status an object by node id."""
    [[node], pages] = controller.node_list()
    status = controller.node_status()

    assert pages == [[1], None, None]
    assert controller.node_list(page="nonsense") == controller.node_list(page=99) == [[node], pages]
    assert controller.node_detail(node["id"])["fingerprint"] == node["fingerprint"]
    assert status[str(node["id"])]["status"] == 1
    workers = status[str(node["id"])]["workers"]
    assert set(workers) == {f"{node['id']}_0", f"{node['id']}_1"}
    assert all(worker[0] == 1 for worker in workers.values())


def test_no_server_is_code_minus_2(cluster: Cluster) -> None:
    """Nothing listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = WebController("127.0.0.1", bound.getsockname()[1], key=cluster.ready["key"])
        with pytest.raises(ControllerException) as raised:
            nobody.list_tasks()

    assert raised.value.code == -2


def test_an_unknown_function_is_code_minus_6(controller: WebController) -> None:
    """Any attribute may be called; the master knows what it has."""
    with pytest.raises(ControllerException) as raised:
        controller.nope()

    assert raised.value.code == -6


def test_no_key_is_code_minus_4(cluster: Cluster, tmp_path: Path) -> None:
    """Without the key file, a call that needs a login cannot be made."""
    with pytest.raises(ControllerException) as raised:
        WebController(cluster.host, cluster.port, key=str(tmp_path / "none.key")).list_tasks()

    assert raised.value.code == -4


def test_a_wrong_key_is_code_minus_1(cluster: Cluster, tmp_path: Path) -> None:
    """A key of somebody else, with this master's certificate."""
    from Crypto.PublicKey import RSA

    text = Path(cluster.ready["key"]).read_text()
    certificate = text[text.index("-----BEGIN CERTIFICATE") :]
    wrong = tmp_path / "wrong.key"
    wrong.write_text(RSA.generate(3072).export_key().decode() + "\n" + certificate)
    wrong.chmod(0o600)
    with pytest.raises(ControllerException) as raised:
        WebController(cluster.host, cluster.port, key=str(wrong)).list_tasks()

    assert raised.value.code == -1


@pytest.mark.parametrize(
    "task_key", ["no.such.Task", "", "demo", "demo.demo_task.Nope", "../../etc", "x" * 5000]
)
def test_an_unknown_task_is_code_minus_3_for_both(controller: WebController, task_key: str) -> None:
    """The exception carries error and traceback."""
    for submit in (controller.queue_task, controller.run_tasks):
        with pytest.raises(ControllerRemoteException) as raised:
            submit(task_key)
        assert raised.value.code == -3
        assert raised.value.error
        assert isinstance(raised.value.traceback, str)


@pytest.mark.parametrize("path", ["/list_tasks", "/nope", "/", "/healthz/../list_tasks", "//list_tasks"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_is_answered_without_a_login(cluster: Cluster, path: str, method: str) -> None:
    """Whatever the verb and the path."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(cluster.host, cluster.port, context=context, timeout=90)
    try:
        connection.request(method, path)
        assert connection.getresponse().status == 401
    finally:
        connection.close()


def test_only_the_named_ports_listen(cluster: Cluster) -> None:
    """The master listens on one port, each node on one, all on loopback."""
    listening = []
    for pid in [cluster.master_pid, *cluster.node_pids]:
        inodes = set()
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                columns = row.split()
                if columns[9] in inodes and (columns[3] == "0A" or table.startswith("udp")):
                    listening.append((pid, table, columns[1].split(":")[0]))

    assert sorted(listening) == sorted(
        (pid, "tcp", "0100007F") for pid in [cluster.master_pid, *cluster.node_pids]
    )
