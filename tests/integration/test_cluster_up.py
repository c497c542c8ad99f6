# SPDX-License-Identifier: MIT
"""``pydra cluster up`` and ``down`` with real daemons."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from pydra.cluster.sandbox.daemon import OWN_NAMES
from tests.support.daemons import EXAMPLES, WAIT_S, Cluster, left_of, run_pydra, wait_until

KEY = "demo.demo_task.TestTask"


def test_the_ready_line_says_where_everything_is(cluster: Cluster) -> None:
    """One line of JSON with controller, key, directory and process numbers that are true."""
    assert set(cluster.ready) >= {"controller", "key", "dir", "pids"}
    assert Path(cluster.ready["dir"]) == cluster.directory
    assert stat.S_IMODE(Path(cluster.ready["key"]).stat().st_mode) == 0o600
    assert (cluster.directory / "pydra_settings.py").exists()
    for pid in (cluster.master_pid, *cluster.node_pids):
        os.kill(pid, 0)


def test_what_daemons_make_is_known_as_theirs(cluster: Cluster) -> None:
    """So root takes over a directory in which a user's daemons ran, and no other one."""
    for name in ("master", "node-1"):
        for made in (cluster.directory / name).iterdir():
            assert any(fnmatch(made.name, own) for own in OWN_NAMES), made


def test_a_second_up_is_refused(cluster: Cluster) -> None:
    """A directory with a living cluster is left alone."""
    done = run_pydra("cluster", "up", "--dir", str(cluster.directory), "--detach", "-o", "json")

    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["code"] == "conflict"
    assert cluster.pydra("ps").returncode == 0


def test_several_nodes_become_ready(own_cluster: Callable[..., Cluster]) -> None:
    """--nodes 2 makes two node daemons, both connected."""
    running = own_cluster("--nodes", "2", "--workers", "1")

    assert len(running.node_pids) == 2
    with running.controller() as controller:
        wait_until(
            controller.node_status,
            lambda nodes: [node["status"] for node in nodes.values()] == [1, 1],
            what="two connected nodes",
            details=running.logs,
        )


def test_down_ends_one_in_the_foreground(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """It says that the cluster was ended, with exit code 0, and takes no daemon for dead."""
    running = own_cluster("--workers", "1")
    assert run_pydra("cluster", "down", "--dir", str(running.directory)).returncode == 0

    assert running.process is not None
    assert running.process.wait(WAIT_S) == 0
    said = (tmp_path / "own.up.err").read_text()
    assert said.endswith("The cluster was ended.\n")
    assert "died" not in said


def test_detach_down_and_up_again_keep_the_history(tmp_path: Path) -> None:
    """The command down ends every process, and up on the same directory has the same store, port and key."""
    directory = tmp_path / "kept"
    words = ("cluster", "up", "--dir", str(directory), "--detach", "--json", "--workers", "1")
    up = run_pydra(*words, "--port", "0")
    assert up.returncode == 0, up.stderr
    first = Cluster(directory, None, json.loads(up.stdout))
    try:
        first.put_package("demo", EXAMPLES / "demo")
        first.wait_listed(KEY)
        assert first.pydra("run", KEY, "-a", "start=0", "-a", "end=1", "--wait").returncode == 0
        assert run_pydra("cluster", "down", "--dir", str(directory)).returncode == 0
        assert left_of([first.master_pid, *first.node_pids]) == []

        again = run_pydra(*words)
        assert again.returncode == 0, again.stderr
        second = Cluster(directory, None, json.loads(again.stdout))
        assert second.port == first.port
        assert len(json.loads(second.pydra("history", KEY, "-o", "json").stdout)) == 1
    finally:
        down = run_pydra("cluster", "down", "--dir", str(directory), "-o", "json")
    assert left_of(json.loads(down.stdout)["ended"]) == []


def test_up_again_after_the_master_was_killed(tmp_path: Path) -> None:
    """Only the dead daemon is started again; the node is the same process as before."""
    directory = tmp_path / "killed"
    words = ("cluster", "up", "--dir", str(directory), "--detach", "--json", "--workers", "1", "--port", "0")
    before = json.loads(run_pydra(*words).stdout)
    try:
        os.kill(before["pids"]["master"], signal.SIGKILL)
        wait_until(
            lambda: left_of([before["pids"]["master"]]), lambda left: not left, what="the master's end"
        )
        again = run_pydra(*words)
        assert again.returncode == 0, again.stderr
        after = json.loads(again.stdout)
        assert after["pids"]["nodes"] == before["pids"]["nodes"]
        assert after["pids"]["master"] != before["pids"]["master"]
        assert after["controller"] == before["controller"]
    finally:
        run_pydra("cluster", "down", "--dir", str(directory))


def test_down_of_nothing_is_not_found(tmp_path: Path) -> None:
    """A directory that never had a cluster ends with 3."""
    assert run_pydra("cluster", "down", "--dir", str(tmp_path)).returncode == 3


def test_without_isolation_every_screen_says_so(own_cluster: Callable[..., Cluster]) -> None:
    """--isolation none runs, and each command warns."""
    running = own_cluster("--isolation", "none", "--workers", "1")
    running.put_package("demo", EXAMPLES / "demo")
    running.wait_listed(KEY)

    for words in (("ps",), ("status",), ("run", KEY, "-a", "start=0", "-a", "end=1", "--wait")):
        done = running.pydra(*words)
        assert done.returncode == 0, done.stderr
        assert "WITHOUT a sandbox" in done.stderr
