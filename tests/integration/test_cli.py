# SPDX-License-Identifier: MIT
"""The command line on a real cluster, from outside."""

from __future__ import annotations

import json
import signal
import subprocess

from pydra.model.status import Status
from tests.support.daemons import PYDRA, Cluster, run_pydra, wait_until

KEY = "demo.demo_task.TestTask"

TASKS = '''
from pydra.cluster.tasks import Task


class Fails(Task):
    """Raises."""

    def work(self, **kwargs):
        raise ValueError("no\\x1b[31m")


class Echo(Task):
    """Returns its arguments."""

    def work(self, **kwargs):
        print("hello", kwargs)
        return kwargs
'''


def put_tasks(cluster: Cluster) -> None:
    """Have a package with a failing task and one that echoes."""
    cluster.put_package("clitest", tasks=TASKS)
    cluster.wait_listed("clitest.tasks.Echo")


def test_run_wait_shows_it_and_prints_the_result(cluster: Cluster) -> None:
    """The acceptance command: progress on standard error, the result on standard output, exit 0."""
    done = cluster.pydra("run", KEY, "-a", "start=0", "-a", "end=2", "--wait")

    assert done.returncode == 0, done.stderr + cluster.logs()
    assert done.stdout.strip()
    assert "complete" in done.stderr


def test_a_failed_task_is_exit_code_1(cluster: Cluster) -> None:
    """The error and the task's own traceback are told; nothing stands on standard output."""
    put_tasks(cluster)
    done = cluster.pydra("run", "clitest.tasks.Fails", "--wait")

    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: no" in done.stderr


def test_arguments_are_text_unless_typed(cluster: Cluster) -> None:
    """A task without a form gets a=1 as text and b:=1 as a number."""
    put_tasks(cluster)
    done = cluster.pydra("run", "clitest.tasks.Echo", "-a", "a=1", "-a", "b:=1", "--wait", "-o", "json")

    assert json.loads(done.stdout)["result"] == {"a": "1", "b": 1}


def test_logs_are_what_the_task_wrote(cluster: Cluster) -> None:
    """The command logs prints the lines of a finished instance, as table and as JSON lines."""
    put_tasks(cluster)
    instance = json.loads(cluster.pydra("run", "clitest.tasks.Echo", "-o", "json").stdout)["id"]
    cluster.wait_final(instance)
    followed = cluster.pydra("logs", str(instance), "-f")

    assert "hello" in followed.stdout
    lines = cluster.pydra("logs", str(instance), "-o", "json").stdout.splitlines()
    assert any("hello" in json.loads(line)["text"] for line in lines)


def test_an_instance_is_found_everywhere(cluster: Cluster) -> None:
    """The commands ps --all, status, history and result know the same finished instance."""
    instance = cluster.pydra("run", KEY, "-a", "start=0", "-a", "end=1").stdout.strip()
    cluster.wait_final(int(instance))
    listed = json.loads(cluster.pydra("ps", "--all", "-o", "json").stdout)
    past = json.loads(cluster.pydra("history", KEY, "-o", "json").stdout)

    assert int(instance) in [record["id"] for record in listed]
    assert int(instance) in [record["id"] for record in past]
    assert json.loads(cluster.pydra("status", instance, "-o", "json").stdout)["state"] == "complete"
    assert cluster.pydra("result", instance).returncode == 0


def test_cancel_ends_a_running_task(cluster: Cluster) -> None:
    """A cancelled instance ends as cancelled, and its result is exit code 1."""
    instance = cluster.pydra("run", KEY, "-a", "start=0", "-a", "end=60").stdout.strip()

    assert cluster.pydra("cancel", instance).returncode == 0
    assert cluster.wait_final(int(instance))["status"] == Status.CANCELLED
    assert cluster.pydra("result", instance).returncode == 1


def test_timeout_is_124_and_the_task_goes_on(cluster: Cluster) -> None:
    """After --timeout the command ends and says how to cancel."""
    done = cluster.pydra("run", KEY, "-a", "start=0", "-a", "end=60", "--wait", "--timeout", "0.5")
    instance = done.stderr.split("pydra cancel ")[-1].split()[0]

    assert done.returncode == 124
    assert cluster.pydra("cancel", instance).returncode == 0


def test_ctrl_c_is_130_and_the_task_goes_on(cluster: Cluster) -> None:
    """Ctrl-C ends the waiting only."""
    process = subprocess.Popen(
        [*PYDRA, "run", KEY, "-a", "start=0", "-a", "end=60", "--wait"],
        env={**cluster.env, "PYDRA_SETTINGS": str(cluster.directory / "pydra_settings.py")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    instance = process.stderr.readline().split()[2]
    wait_until(lambda: cluster.pydra("status", instance, "-o", "json").stdout, lambda text: "running" in text)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 130
    assert f"pydra cancel {instance}" in said
    assert cluster.pydra("cancel", instance).returncode == 0


def test_what_does_not_exist_is_3(cluster: Cluster) -> None:
    """Unknown tasks and instances end with 3, with JSON on standard error under -o json."""
    for words in (
        ("run", "no.such.Task"),
        ("status", "999999"),
        ("logs", "999999"),
        ("result", "999999"),
        ("cancel", "999999"),
    ):
        done = cluster.pydra(*words, "-o", "json")
        assert done.returncode == 3, (words, done.stderr)
        assert json.loads(done.stderr)["error"]["exit_code"] == 3


def test_arguments_that_the_form_refuses_are_2(cluster: Cluster) -> None:
    """The form's message is shown and nothing is queued."""
    done = cluster.pydra("run", KEY, "-a", "start=abc", "-a", "end=1")

    assert done.returncode == 2
    assert "start" in done.stderr


def test_no_master_is_5() -> None:
    """Nobody listening is told in one sentence."""
    done = run_pydra("ps", "--host", "127.0.0.1", "--port", "1", "--key", "master.key")

    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_status_of_the_cluster(cluster: Cluster) -> None:
    """The command status without an id shows nodes and packages."""
    shown = json.loads(cluster.pydra("status", "-o", "json").stdout)

    assert [node["connected"] for node in shown["nodes"]] == [True]
    assert [node["workers"] for node in shown["nodes"]] == [2]
    assert "demo" in [package["package"] for package in shown["packages"]]
