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

from pydra.cli.connection import Controller
from pydra.cli.failures import CliError
from pydra.cli.local_cluster.daemon import (
    Started,
    daemon_environment,
    end_processes,
    start_daemon,
    wait_ready,
)
from pydra.cli.local_cluster.layout import Layout
from pydra.cli.local_cluster.record import Process, Record, read_record, session_members, this_process
from pydra.cli.local_cluster.start import Starter, Wish
from pydra.client.target import Target
from pydra.cluster.sandbox.runtime_lock import hold
from tests.support.daemons import WAIT_S
from tests.support.scripted_controller import ScriptedController

READY = """
import json, pathlib, sys, time
pathlib.Path(sys.argv[4]).write_text(json.dumps({"pid": 1, "port": 4711, "isolation": "full"}))
time.sleep(60)
"""

FAILS = "import sys; print('No sandbox.'); sys.exit(4)"

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
        each.child.wait(90)


def launch(layout: Layout, started: list[Started], program: str) -> Started:
    """Start a program as the daemon node-1."""
    each = start_daemon(layout, "node-1", [sys.executable, "-c", program])
    started.append(each)
    return each


class Bench:
    """Starts clusters of small programs in one directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.told: list[str] = []
        self.starters: list[Starter] = []
        self.wish = Wish(workers=1, port=0)

    def start(self, program: str, *, interrupted: bool = False, **environ: str) -> Record:
        """Start one; ``interrupted`` is Ctrl-C while the first node is waited for."""

        def connect(_target: Target) -> Controller:
            if interrupted:
                raise KeyboardInterrupt
            return ScriptedController(node_status=[{"1": {"status": 1}}])

        starter = Starter(
            self.layout, self.told.append, connect, lambda _: [sys.executable, "-c", program], environ
        )
        self.starters.append(starter)
        return starter.start(self.wish)

    def stop(self) -> None:
        """End all that was started."""
        for starter in self.starters:
            end_processes([each.process for each in starter.started.values()], self.told.append)
            for each in starter.started.values():
                each.child.wait(90)


@pytest.fixture
def bench(layout: Layout) -> Iterator[Bench]:
    """A directory in which nothing runs, also afterwards."""
    made = Bench(layout)
    yield made
    made.stop()


def kept_bubblewrap(layout: Layout) -> str | None:
    """Return the bubblewrap of the record."""
    record = read_record(layout)
    return None if record is None else record.bubblewrap


def test_the_bubblewrap_of_a_failed_start_is_forgotten(bench: Bench) -> None:
    """A start that fails does not decide over the next ones; one that succeeds is remembered."""
    with pytest.raises(CliError, match="No sandbox"):
        bench.start(FAILS, PYDRA_BUBBLEWRAP="/bin/false")
    assert kept_bubblewrap(bench.layout) == ""
    assert bench.start(READY, PYDRA_BUBBLEWRAP="/bin/true").bubblewrap == "/bin/true"
    bench.stop()
    assert kept_bubblewrap(bench.layout) == "/bin/true"
    with pytest.raises(CliError, match="No sandbox"):
        bench.start(FAILS, PYDRA_BUBBLEWRAP="/bin/false")
    assert kept_bubblewrap(bench.layout) == "/bin/true"
    assert bench.start(READY).bubblewrap == "/bin/true"
    bench.stop()
    assert bench.start(READY, PYDRA_BUBBLEWRAP="").bubblewrap == ""


def test_a_bubblewrap_that_is_gone_is_forgotten(bench: Bench, tmp_path: Path) -> None:
    """What was remembered counts only while it is there."""
    tool = tmp_path / "bwrap"
    tool.write_text("")
    tool.chmod(0o755)
    bench.start(READY, PYDRA_BUBBLEWRAP=str(tool))
    bench.stop()
    tool.unlink()

    assert bench.start(READY).bubblewrap == ""


def test_the_master_is_started_first(bench: Bench) -> None:
    """The parts are named from the top; the isolation is what they report."""
    record = bench.start(READY)

    assert bench.told[:2] == ["Starting master.", "Starting node-1."]
    assert record.reported_isolation == "full"


def test_a_daemon_that_nobody_remembers(bench: Bench) -> None:
    """With cluster.json gone and a daemon alive, nothing is started; it is said what to do."""
    lock = hold(bench.layout.runtime("node-1"))
    try:
        with pytest.raises(CliError, match=rf"works in .*/node-1 \(process {os.getpid()}\); end it first"):
            bench.start(READY)
    finally:
        os.close(lock)
    assert bench.told == []
    assert bench.start(READY).nodes[0].is_alive


def test_ctrl_c_while_it_starts(bench: Bench) -> None:
    """It is said that what was started is ended, and it is."""
    with pytest.raises(KeyboardInterrupt):
        bench.start(READY, interrupted=True)

    assert bench.told[-1] == "Interrupted; ending what was started."
    assert [each.process.is_alive for each in bench.starters[0].started.values()] == [False, False]


def test_a_daemon_is_ready_when_it_says_so(layout: Layout, started: list[Started]) -> None:
    """Its port is what its ready file says; its process is the one that was started."""
    daemon = wait_ready(layout, launch(layout, started, READY), time.monotonic() + WAIT_S)

    assert (daemon.port, daemon.isolation) == (4711, "full")
    assert daemon.process == started[0].process
    assert daemon.is_alive


def test_a_daemon_that_dies_is_quoted(layout: Layout, started: list[Started]) -> None:
    """The error has the end of what it wrote, and nothing of an earlier start."""
    layout.output("node-1").write_text("from before\n")
    program = "import sys; sys.exit('cannot listen')"

    with pytest.raises(CliError, match="cannot listen") as caught:
        wait_ready(layout, launch(layout, started, program), time.monotonic() + WAIT_S)
    assert caught.value.exit_code == 1
    assert "from before" not in str(caught.value)


@pytest.mark.parametrize("code", [3, 4])
def test_a_missing_sandbox_is_one_sentence_and_its_code(
    layout: Layout, started: list[Started], code: int
) -> None:
    """The daemon's own last sentence and exit code are handed on."""
    program = f"import sys; print('noise'); print('The cause; the remedy.'); sys.exit({code})"

    with pytest.raises(CliError) as caught:
        wait_ready(layout, launch(layout, started, program), time.monotonic() + WAIT_S)
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
    wait_ready(layout, each, time.monotonic() + WAIT_S)

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
