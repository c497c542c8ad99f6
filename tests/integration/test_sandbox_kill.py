# SPDX-License-Identifier: MIT
"""That nothing of a worker is left when it, its launcher or its daemon ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.configuration import FULL, NONE
from pydra.cluster.sandbox.launcher.deadlines import boottime
from pydra.cluster.wire.frames import RUN
from pydra.errors import SandboxError
from tests.support.launchers import DEADLINE_S, Bench, LauncherProcess, isolations, launcher, processes_of

SANDBOXED = [kind for kind in isolations() if kind != NONE]

TREE = """
import os, signal, time
for _ in range(50):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: time.sleep(100)
    os.wait()
result = len([n for n in os.listdir('/proc') if n.isdigit()])
"""
"""Fifty processes that ignore signals, in sessions of their own, and no longer children of the worker."""


def descendants(pid: int) -> set[int]:
    """All processes below one, now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, level = set[int](), {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def processes(started: LauncherProcess) -> set[int]:
    """All processes of workers, now."""
    return descendants(started.pid) - started.zygote


def alive(pids: set[int]) -> set[int]:
    """Those that still run."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.add(pid)
    return found


def wait_gone(pids: set[int]) -> None:
    """Until none of them runs."""
    deadline = time.monotonic() + DEADLINE_S
    while left := alive(pids):
        assert time.monotonic() < deadline, f"{left} still run"


@pytest.mark.parametrize("isolation", SANDBOXED)
def test_kill_ends_the_whole_tree(isolation: str, tmp_path: Path) -> None:
    """When the end is told no process of fifty is left, nor the scratch."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        taken = bench.take()
        assert bench.run(taken, TREE) >= 52  # type: ignore[operator]
        pids = processes(started)
        assert len(pids) >= 52
        ending = bench.end(taken)
        assert set() == alive(pids)
        assert (137, "killed by signal 9 (SIGKILL)") == (ending.status, ending.reason)
        left = {path.name for own in started.scratch.iterdir() for path in own.iterdir()}
        assert {"etc", "etc-network"} == left
        bench.close()


@pytest.mark.skipif(
    os.geteuid() != 0, reason="without a sandbox only a slot uid finds all processes, and that needs root"
)
def test_kill_without_a_sandbox_finds_the_processes_by_their_uid(tmp_path: Path) -> None:
    """As root, what a plain worker left behind is killed by its slot uid."""
    with launcher(tmp_path, NONE) as started:
        bench = Bench(started, NONE, 0)
        taken = bench.take()
        bench.run(taken, TREE)
        uid = bench.run(taken, "import os; result = os.getuid()")
        assert isinstance(uid, int)
        assert len(processes_of(uid)) >= 51
        pids = set(processes_of(uid))
        bench.end(taken)
        wait_gone(pids)
        bench.close()


@pytest.mark.parametrize("isolation", isolations())
@pytest.mark.parametrize(
    ("statements", "status", "reason"),
    [
        ("import os; os._exit(3)", 3, "exited with status 3"),
        ("import os; os.kill(os.getpid(), 11)", 139, "segmentation fault (signal 11, SIGSEGV)"),
        ("import os; os.write(channel, b'nonsense')", 137, "protocol: "),
        ("import os; os.close(channel)", None, ""),
    ],
)
def test_ends_are_told(
    isolation: str, statements: str, status: int | None, reason: str, tmp_path: Path
) -> None:
    """The status is that of the worker itself, with a sentence."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        worker, recorder = bench.take()
        worker.send([RUN, statements])
        ending = bench.ending((worker, recorder))
        assert status in (ending.status, None)
        assert ending.reason.startswith(reason)
        bench.close()


@pytest.mark.parametrize("isolation", SANDBOXED)
def test_a_worker_that_ends_takes_its_children_along(isolation: str, tmp_path: Path) -> None:
    """A task cannot leave a process behind by ending itself."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        taken = bench.take()
        bench.run(taken, TREE)
        pids = processes(started)
        taken[0].send([RUN, "import os; os._exit(0)"])
        assert 0 == bench.ending(taken).status
        assert set() == alive(pids)
        bench.close()


@pytest.mark.parametrize("isolation", isolations())
def test_the_end_of_the_daemon_is_the_end_of_all(isolation: str, tmp_path: Path) -> None:
    """When the socket closes the launcher kills everything, removes all scratch and ends."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 2)
        taken = bench.take()
        if isolation != NONE:
            bench.run(taken, TREE)
        pids = processes(started)
        started.control.shutdown(socket.SHUT_RDWR)
        assert 0 == started.process.wait(DEADLINE_S)
        assert set() == alive(pids)
        assert [] == list(started.scratch.iterdir())
        bench.ending(taken)
        bench.close()


@pytest.mark.parametrize("isolation", isolations())
def test_a_time_passes_while_the_daemon_stands_still(isolation: str, tmp_path: Path) -> None:
    """All of the worker is gone though the daemon does nothing; it is told afterwards, and goes on."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 0)
        taken = bench.take()
        if isolation != NONE:
            bench.run(taken, TREE)
        taken[0].live_until(boottime() + 3600.0)
        taken[0].live_until(boottime() + 0.3)
        wait_gone(processes(started))
        ending = bench.ending(taken)
        assert WorkerExit(137, "killed by signal 9 (SIGKILL)", is_overdue=True) == ending
        other = bench.take()
        assert 7 == bench.run(other, "result = 7")
        other[0].live_until(boottime() + 3600.0)
        assert not bench.end(other).is_overdue
        bench.close()


@pytest.mark.parametrize("isolation", isolations())
def test_a_time_of_one_that_begins_or_has_ended(isolation: str, tmp_path: Path) -> None:
    """One that has no time left is ended as soon as it is there, whatever is said of it later."""
    with launcher(tmp_path, isolation) as started:
        control = started.control
        control.settimeout(DEADLINE_S)
        ours, its = socket.socketpair()
        reading, writing = os.pipe()
        socket.send_fds(control, [messages.encode("launch", 1)], [its.fileno(), writing])
        for at in (boottime() - 1.0, 0):
            control.send(messages.encode("until", 1, at=at))
        said = [json.loads(control.recv(4096)) for _ in range(2)]
        assert ["launched", "exited"] == [each["what"] for each in said]
        assert said[1]["overdue"]
        control.send(messages.encode("until", 1, at=0))
        control.send(messages.encode("launch", 2))
        assert "refused" in control.recv(4096).decode()
        for end in (ours, its):
            end.close()
        for pipe in (reading, writing):
            os.close(pipe)
        assert 0 == started.end()


@pytest.mark.parametrize("isolation", isolations())
def test_workers_die_with_their_launcher(isolation: str, tmp_path: Path) -> None:
    """Even when it is killed; and the next launcher removes the scratch that is left."""
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 2)
        taken = bench.take()
        if isolation != NONE:
            bench.run(taken, TREE)
        bench.until(lambda: len(bench.pool._ready) == 2, "two more workers")
        pids = descendants(started.pid)
        started.process.send_signal(signal.SIGKILL)
        started.process.wait()
        assert "launcher" in bench.ending(taken).reason
        wait_gone(pids)
        assert [] != list(started.scratch.iterdir())
        bench.close()
    with launcher(tmp_path, isolation) as started:
        bench = Bench(started, isolation, 1)
        bench.end(bench.take())
        bench.until(lambda: len(list(started.scratch.iterdir())) == 1, "the removal of what was left")
        bench.close()


def test_an_interrupt_does_not_end_a_launcher(tmp_path: Path) -> None:
    """Ctrl-C and Ctrl-Z reach daemon and launcher; the daemon decides."""
    with launcher(tmp_path, isolations()[0]) as started:
        bench = Bench(started, isolations()[0], 1)
        bench.until(lambda: bench.pool._ready, "a worker")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            started.process.send_signal(number)
        bench.end(bench.take())
        bench.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="slot uids need root")
def test_two_launchers_never_share_a_uid(tmp_path: Path) -> None:
    """With four uids for both, four workers run and a fifth is refused in words."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    slots = (60590, 60593)
    with (
        launcher(tmp_path / "a", FULL, slots=slots) as first,
        launcher(tmp_path / "b", FULL, slots=slots) as second,
    ):
        benches = [Bench(first, FULL, 0), Bench(second, FULL, 0)]
        taken = [benches[at % 2].take() for at in range(4)]
        uids = [{os.stat(f"/proc/{pid}").st_uid for pid in processes(started)} for started in (first, second)]
        assert uids[0] | uids[1] == set(range(slots[0], slots[1] + 1))
        assert 2 == len(uids[0]) == len(uids[1])
        with pytest.raises(SandboxError, match=r"No slot uid is free in 60590\.\.60593"):
            benches[0].take()
        for at in range(4):
            benches[at % 2].end(taken[at])
        for bench in benches:
            bench.close()


@pytest.mark.parametrize("isolation", isolations())
def test_a_hostile_daemon_is_refused(isolation: str, tmp_path: Path) -> None:
    """Requests that name what may not be named are answered with a refusal, and the launcher goes on."""
    with launcher(tmp_path, isolation) as started:
        (started.runtime / "secret").mkdir()
        control = started.control
        control.settimeout(DEADLINE_S)
        refused = [
            b"garbage",
            b"{}",
            b"\xff" * 100,
            b" " * 20_000,
            messages.encode("launch", -1),
            messages.encode("launch", 1),
            messages.encode("execute", 1, command="id"),
            messages.encode("launch", 1, network="yes"),
            messages.encode("fill", 1, packages=[["..", "secret"]]),
            messages.encode("fill", 1, packages=[["/etc", "ab" * 32]]),
            messages.encode("until", 1, at=float("nan")),
            messages.encode("until", 1, at="later"),
        ]
        for packet in refused:
            control.send(packet)
            assert "refused" in control.recv(4096).decode()
        control.send(messages.encode("kill", 77))
        for at in (0, 1.5, 2**53 - 1):
            control.send(messages.encode("until", 77, at=at))
        control.send(messages.encode("fill", 77, packages=[["demo", "ab" * 32]]))
        for what in ("failed", "unfilled"):
            answer = json.loads(control.recv(4096))
            assert {"what": what, "id": 77, "reason": "There is no such worker."} == answer
        with open(os.devnull) as empty:
            for count in (1, 3, 4, 50):
                socket.send_fds(control, [messages.encode("launch", 1)], [empty.fileno()] * count)
                assert "refused" in control.recv(4096).decode()
            # Descriptors that are no channel: the worker ends by itself, and is reported.
            socket.send_fds(control, [messages.encode("launch", 1)], [empty.fileno()] * 2)
            socket.send_fds(control, [messages.encode("launch", 1)], [empty.fileno()] * 2)
        said = [control.recv(4096).decode() for _ in range(3)]
        assert "launched" in said[0]
        assert "in use" in said[1]
        assert "exited" in said[2]
        assert 0 == started.end()


def test_many_workers_at_once(tmp_path: Path) -> None:
    """Twenty workers are started and killed together, some before they are ready."""
    with launcher(tmp_path, isolations()[0]) as started:
        control = started.control
        control.settimeout(DEADLINE_S)
        ends = []
        for number in range(1, 21):
            ours, its = socket.socketpair()
            reading, writing = os.pipe()
            socket.send_fds(control, [messages.encode("launch", number)], [its.fileno(), writing])
            its.close()
            os.close(writing)
            os.close(reading)
            ends.append(ours)
            if number % 2:
                control.send(messages.encode("kill", number))
        for number in range(2, 21, 2):
            control.send(messages.encode("kill", number))
        exited = 0
        while exited < 20:
            exited += "exited" in control.recv(4096).decode()
        assert set() == processes(started)
        for end in ends:
            end.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.003, 0.01])
@pytest.mark.root_only
def test_a_kill_meets_a_worker_that_ends_by_itself(tmp_path: Path, pause_s: float) -> None:
    """The launcher, which is busy meanwhile, learns of both at once and goes on."""
    with launcher(tmp_path, "full-bubblewrap") as started:
        started.control.settimeout(DEADLINE_S)
        for number in range(1, 6):
            ours, its = socket.socketpair()
            reading, writing = os.pipe2(os.O_CLOEXEC)
            launch = messages.encode(messages.LAUNCH, number, probe=True)
            socket.send_fds(started.control, [launch], [its.fileno(), writing])
            its.close()
            os.close(writing)
            assert b"launched" in started.control.recv(65_536)
            time.sleep(pause_s)  # noqa: TID251 - when the launcher stands still is what the test varies
            os.kill(started.pid, signal.SIGSTOP)
            ours.settimeout(DEADLINE_S)
            assert ours.recv(65_536)
            started.control.send(messages.encode(messages.KILL, number))
            time.sleep(0.15)  # noqa: TID251 - the probe ends by itself
            os.kill(started.pid, signal.SIGCONT)
            assert b"exited" in started.control.recv(65_536)
            ours.close()
            os.close(reading)
