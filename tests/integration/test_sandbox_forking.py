# SPDX-License-Identifier: MIT
"""Workers forked from a zygote: as bubblewrap would have made them, whatever becomes of the zygote."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.sandbox.launcher.configuration import AUTO, BUBBLEWRAP, NONE, USER
from pydra.cluster.sandbox.launcher.forking.zygote import STUCK_S
from pydra.cluster.sandbox.worker_process import SandboxedWorker
from tests.support.launchers import ROOT, Bench, LauncherProcess, Recorder, isolations, launcher

FORKED = [kind for kind in isolations() if kind != NONE and not kind.endswith(BUBBLEWRAP)]

FACTS = """
import os, resource, signal, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
kinds = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
mounts = [line.split() for line in open("/proc/self/mountinfo").read().splitlines()]
flags = lambda line: sorted(set(line[5].split(",")) & {"ro", "rw", "nosuid"})
result = {
    "flags": str(sys.flags),
    "path": sys.path,
    "prefix": [sys.prefix, sys.executable, os.__file__],
    "argv": [sys.argv, sys.orig_argv[1:6]],
    "environment": {name: value for name, value in os.environ.items() if name != "PWD"},
    "directory": os.getcwd(),
    "umask": os.umask(0o22),
    "session": [os.getsid(0), os.getpgrp()],
    "signals": [str(signal.getsignal(number)) for number in range(1, 65) if number not in (32, 33)],
    "masks": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
    "privileges": [status[name].strip() for name in ("CapPrm", "CapBnd", "NoNewPrivs", "Threads")],
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in kinds},
    "nice": os.nice(0),
    "ids": [os.getresuid(), os.getresgid()],
    "streams": [str(stream.encoding) + str(stream.line_buffering) for stream in (sys.stdout, sys.stderr)],
    "lists": [sorted(os.listdir(path)) for path in ("/", "/dev", "/dev/pts", "/etc", "/task", "/opt/pydra")],
    "mounts": sorted(line[4] + str(flags(line)) for line in mounts if not line[4].startswith("/usr/")),
    "maps": [open("/proc/self/" + name).read().split()[::2] for name in ("uid_map", "gid_map")],
}
"""


def find(started: LauncherProcess, isolation: str, statements: str) -> Any:
    """What a worker of a launcher finds."""
    bench = Bench(started, isolation, 0)
    taken = bench.take()
    found = bench.run(taken, statements)
    bench.end(taken)
    bench.close()
    return found


def children(process: int) -> set[int]:
    """The children of a process with one thread."""
    return {int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()}


def identity(process: int) -> dict[str, str]:
    """Who a process is: real, effective, saved and file-system ids, and its groups."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {name: status[name].strip() for name in ("Uid", "Gid", "Groups")}


def is_running(process: int) -> bool:
    """It exists, and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("isolation", FORKED)
def test_a_forked_worker_is_like_one_that_was_started(isolation: str, tmp_path: Path) -> None:
    """What a task can find out about its interpreter, process and surroundings is the same."""
    with launcher(tmp_path, isolation) as started:
        forked = find(started, isolation, FACTS)
    with launcher(tmp_path, f"{isolation}-{BUBBLEWRAP}") as started:
        made = find(started, isolation, FACTS)
    assert made.keys() == forked.keys()
    for name, expected in made.items():
        assert expected == forked[name], name


@pytest.mark.parametrize("isolation", FORKED)
def test_nothing_of_the_host_is_in_its_processes(isolation: str, tmp_path: Path) -> None:
    """Command lines and environments that a worker can read name no path of the host."""
    with launcher(tmp_path, isolation) as started:
        found = find(
            started,
            isolation,
            "result = b''.join(open(f'/proc/{pid}/{name}', 'rb').read()\n"
            "                  for pid in (1, 2) for name in ('cmdline', 'environ'))",
        )
    assert b"/opt/pydra/package" in found
    assert str(ROOT).encode() not in found
    assert str(tmp_path).encode() not in found
    assert b"scratch" not in found


@pytest.mark.parametrize("isolation", [kind for kind in isolations() if kind != NONE])
def test_terminals_are_its_own(isolation: str, tmp_path: Path) -> None:
    """A worker does not see the pseudo-terminals of another one."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        first, second = bench.take(), bench.take()
        terminals = "import os; ends = os.openpty(); result = os.ttyname(ends[1]), os.listdir('/dev/pts')"
        assert ["/dev/pts/0", ["0", "ptmx"]] == bench.run(first, terminals)
        assert ["ptmx"] == bench.run(second, "import os; result = os.listdir('/dev/pts')")
        bench.end(first)
        bench.end(second)
        bench.close()


@pytest.mark.parametrize("isolation", FORKED)
def test_workers_live_on_without_their_zygote(isolation: str, tmp_path: Path) -> None:
    """One that is killed costs no worker, and another one bears the next."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        first = bench.take()
        (killed,) = started.zygote
        os.kill(killed, signal.SIGKILL)
        second = bench.take()
        assert 1 == bench.run(first, "result = 1")
        assert 2 == bench.run(second, "result = 2")
        assert 1 == len(started.zygote - {killed})
        bench.end(first)
        bench.end(second)
        bench.close()


@pytest.mark.parametrize("isolation", FORKED)
def test_all_that_belongs_to_a_worker_is_its_user(isolation: str, tmp_path: Path) -> None:
    """From outside too, its processes have one uid in all respects; the zygote stays who the launcher is."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        taken = bench.take()
        (zygote,) = started.zygote
        launching = identity(started.pid)
        (first,) = children(started.pid) - {zygote}
        (worker,) = children(first)
        (own,) = {uid for process in (first, worker) for uid in identity(process)["Uid"].split()}
        (group,) = {gid for process in (first, worker) for gid in identity(process)["Gid"].split()}
        assert launching["Uid"] == identity(zygote)["Uid"]
        assert launching["Gid"] == identity(zygote)["Gid"]
        assert (own in launching["Uid"].split()) is (isolation == USER)
        assert (group in launching["Gid"].split()) is (isolation == USER)
        assert isolation == USER or "" == identity(first)["Groups"] == identity(worker)["Groups"]
        bench.end(taken)
        bench.close()


def test_a_zygote_ends_with_its_launcher(tmp_path: Path) -> None:
    """Even while it is stopped and the launcher is killed, and after it bore workers."""
    with launcher(tmp_path, FORKED[0]) as started:
        bench = Bench(started, FORKED[0], 0)
        bench.end(bench.take())
        (stopped,) = started.zygote
        os.kill(stopped, signal.SIGSTOP)
        started.process.kill()
        bench.until(lambda: not is_running(stopped), "the end of the zygote")
        bench.close()


def test_a_zygote_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    """When a worker that it does not bear is ended, so is the zygote, and others are made all the same."""
    with launcher(tmp_path, FORKED[0], start=AUTO) as started:
        bench = Bench(started, FORKED[0], 0)
        bench.end(bench.take())
        (stopped,) = started.zygote
        os.kill(stopped, signal.SIGSTOP)
        waiting = Deferred.fromCoroutine(bench.pool.take(Recorder(), None, None))
        told: list[object] = []
        waiting.addBoth(told.append)
        deadline = time.monotonic() + STUCK_S + 0.2
        bench.until(lambda: time.monotonic() > deadline)
        (number,) = bench.pool._workers
        bench.pool._workers[number].kill()
        bench.until(lambda: told, "another worker")
        assert isinstance(told[0], SandboxedWorker)
        assert stopped not in started.zygote
        bench.close()


def test_a_launcher_ends_in_spite_of_a_zygote_that_says_nothing(tmp_path: Path) -> None:
    """Its daemon is gone, and so it goes, and leaves no process behind."""
    with launcher(tmp_path, FORKED[0]) as started:
        bench = Bench(started, FORKED[0], 0)
        bench.end(bench.take())
        (stopped,) = started.zygote
        os.kill(stopped, signal.SIGSTOP)
        waiting = Deferred.fromCoroutine(bench.pool.take(Recorder(), None, None))
        waiting.addErrback(lambda fault: None)
        bench.until(lambda: bench.pool._workers)
        assert 0 == started.end()
        assert not Path(f"/proc/{stopped}").exists()
        bench.close()


def test_bubblewrap_takes_over_from_a_zygote_that_bore_nobody(tmp_path: Path) -> None:
    """What cannot even begin is not tried again and again."""
    with launcher(tmp_path, FORKED[0], start=AUTO) as started:
        bench = Bench(started, FORKED[0], 0)
        bench.until(lambda: started.zygote, "the zygote")
        taken = bench.take()  # it has passed its trial by now
        bench.end(taken)
        for _ in range(2):
            for pid in started.zygote:
                os.kill(pid, signal.SIGKILL)
            bench.until(lambda: True)
        taken = bench.take()
        assert 7 == bench.run(taken, "result = 7")
        bench.end(taken)
        bench.close()


def test_a_failed_trial_is_told_and_bubblewrap_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A room that cannot be built is no reason for having no workers."""
    with launcher(
        tmp_path, FORKED[0], start=AUTO, worker="pydra_test_worker_that_needs_no_zygote"
    ) as started:
        bench = Bench(started, FORKED[0], 0)
        taken = bench.take()
        assert 7 == bench.run(taken, "result = 7")
        assert set() == started.zygote
        bench.end(taken)
        bench.close()
    assert "Workers are made by bubblewrap, which takes longer: " in capfd.readouterr().err


@pytest.mark.parametrize("isolation", FORKED)
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_bubblewrap_takes_over_where_there_is_no_clone3(
    error: int, isolation: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A kernel or container that refuses the call is no reason for having no workers."""
    with launcher(tmp_path, isolation, start=AUTO, clone3=error) as started:
        bench = Bench(started, isolation, 0)
        for _ in range(2):
            taken = bench.take()
            assert 7 == bench.run(taken, "result = 7")
            assert set() == started.zygote
            bench.end(taken)
        bench.close()
    said = capfd.readouterr().err
    assert f"takes longer: The worker cannot be started: [Errno {error}] clone3: {os.strerror(error)}" in said
    assert 1 == said.count("Workers are made by bubblewrap")


def test_outside_of_a_sandbox_the_trial_fails() -> None:
    """Whoever looks around where nothing is isolated says so."""
    program = "from pydra.cluster.sandbox.launcher.forking.probe import Probe; Probe([(7, 16)]).look()"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert 1 == ended.returncode
    for fault in (
        "the uid is not that of a worker",
        "the worker is not pid 2",
        "new privileges can be had",
        "limit 7 is not lowered",
        *(f"the {name} namespace is not new" for name in ("user", "mnt", "pid", "net", "ipc", "uts")),
        "other processes can be seen",
        "the host has another name",
        "the working directory is another one",
        "at the root",
        "/ can be written",
        "/task/work is not mounted",
    ):
        assert fault in ended.stderr
