# SPDX-License-Identifier: MIT
"""Starting, recognising and ending daemon processes, with small programs in the place of daemons."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pydra.cli.failures import CliError
from pydra.cli.local_cluster.daemon import (
    Started,
    daemon_environment,
    end_processes,
    start_daemon,
    wait_ready,
)
from pydra.cli.local_cluster.layout import Layout
from pydra.cli.local_cluster.record import Process, session_members, this_process

READY = """
import json, pathlib, sys, time
pathlib.Path(sys.argv[4]).write_text(json.dumps({"pid": 1, "port": 4711, "isolation": "full"}))
time.sleep(60)
"""

LEAVES_A_CHILD = """
import subprocess, sys
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
child.stdout.readline()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A directory with room for one daemon."""
    made = Layout(tmp_path / "cluster")
    made.make()
    made.make_runtime("node-1")
    return made


@pytest.fixture
def started() -> Iterator[list[Started]]:
    """The daemons that a test started; they are ended and waited for."""
    made: list[Started] = []
    yield made
    end_processes([each.process for each in made], lambda _: None)
    for each in made:
        each.child.wait(10)


def launch(layout: Layout, started: list[Started], program: str) -> Started:
    """Start a program as the daemon node-1."""
    each = start_daemon(layout, "node-1", [sys.executable, "-c", program])
    started.append(each)
    return each


def test_a_daemon_is_ready_when_it_says_so(layout: Layout, started: list[Started]) -> None:
    """Its port is what its ready file says; its process is the one that was started."""
    daemon = wait_ready(layout, launch(layout, started, READY), time.monotonic() + 20)

    assert (daemon.port, daemon.isolation) == (4711, "full")
    assert daemon.process == started[0].process
    assert daemon.is_alive


def test_a_daemon_that_dies_is_quoted(layout: Layout, started: list[Started]) -> None:
    """The error has the end of what it wrote, and nothing of an earlier start."""
    layout.output("node-1").write_text("from before\n")
    program = "import sys; sys.exit('cannot listen')"

    with pytest.raises(CliError, match="cannot listen") as caught:
        wait_ready(layout, launch(layout, started, program), time.monotonic() + 20)
    assert caught.value.exit_code == 1
    assert "from before" not in str(caught.value)


@pytest.mark.parametrize("code", [3, 4])
def test_a_missing_sandbox_is_one_sentence_and_its_code(
    layout: Layout, started: list[Started], code: int
) -> None:
    """The daemon's own last sentence and exit code are handed on."""
    program = f"import sys; print('noise'); print('The cause; the remedy.'); sys.exit({code})"

    with pytest.raises(CliError) as caught:
        wait_ready(layout, launch(layout, started, program), time.monotonic() + 20)
    assert (str(caught.value), caught.value.exit_code) == ("The cause; the remedy.", code)


def test_a_daemon_that_never_gets_ready_is_an_error(layout: Layout, started: list[Started]) -> None:
    """The time given is the time taken."""
    with pytest.raises(CliError, match="not ready"):
        wait_ready(layout, launch(layout, started, "import time; time.sleep(60)"), time.monotonic() + 0.2)


def test_an_old_ready_file_is_not_believed(layout: Layout, started: list[Started]) -> None:
    """What an earlier start wrote is removed before the next."""
    layout.ready("node-1").write_text('{"port": 1}')
    launch(layout, started, "import time; time.sleep(60)")

    assert not layout.ready("node-1").exists()


def test_ending_takes_what_a_daemon_left(layout: Layout, started: list[Started]) -> None:
    """A child that ignores the polite signal is killed with the daemon gone."""
    program = LEAVES_A_CHILD + READY
    each = launch(layout, started, program)
    wait_ready(layout, each, time.monotonic() + 20)

    assert len(session_members(each.process)) == 2
    end_processes([each.process], lambda _: None)
    assert session_members(each.process) == []
    assert not each.process.is_alive


def test_a_reused_number_is_not_ours() -> None:
    """A process is told from a later one with its number, and from one of an earlier boot."""
    mine = this_process(os.getpid())
    assert mine is not None

    assert mine.is_alive
    assert not msgspec.structs.replace(mine, started=mine.started - 1).is_alive
    assert not msgspec.structs.replace(mine, boot="another").is_alive
    assert session_members(Process(os.getpid(), mine.started - 1, mine.boot)) == []


def test_a_process_that_waits_to_be_reaped_is_dead() -> None:
    """A zombie is not alive."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = this_process(child.pid)
    assert process is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not process.is_alive
    child.wait()


def test_settings_in_the_environment_do_not_reach_daemons() -> None:
    """What ``up`` decides is decided by its files; other settings pass."""
    environment = daemon_environment({"PYDRA_PORT": "1", "PYDRA_HEARTBEAT_S": "1", "PATH": "/bin"})

    assert environment.keys() - {"PYTHONPATH"} == {"PYDRA_HEARTBEAT_S", "PATH"}
