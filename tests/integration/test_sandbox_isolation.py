# SPDX-License-Identifier: MIT
"""What a worker can see and do, in each isolation, with real sandboxes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.sandbox.launcher.configuration import FULL, NONE
from pydra.errors import SandboxError
from tests.support.launchers import (
    CEILINGS,
    LAUNCHER_UID,
    SLOTS,
    Bench,
    LauncherProcess,
    isolations,
    launcher,
)

VERSION = "ab" * 32
SECRET = "the content of the key"


class Place:
    """A bench with one launcher, and what a worker there should not find."""

    def __init__(self, started: LauncherProcess, isolation: str) -> None:
        self.isolation = isolation
        self.started = started
        self.uid = LAUNCHER_UID if isolation == "user" and os.geteuid() == 0 else os.geteuid()
        self.key = started.runtime / "master.key"
        self.key.write_text(SECRET)
        self.key.chmod(0o600)
        package = started.cache / "demo" / VERSION
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("answer = 42\n")
        for path in (self.key, package.parent, package, package / "__init__.py"):
            os.chown(path, self.uid, self.uid)
        self.bench = Bench(started, isolation)


def places(wanted: list[str]) -> Iterator[Place]:
    """One place each."""
    for isolation in wanted:
        with tempfile.TemporaryDirectory() as directory, launcher(Path(directory), isolation) as started:
            place = Place(started, isolation.partition("-")[0])
            yield place
            place.bench.close()


@pytest.fixture(scope="module", params=isolations())
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place in each isolation."""
    yield from places([request.param])


@pytest.fixture(scope="module", params=[kind for kind in isolations() if kind != NONE])
def sandboxed(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place in each isolation that has a sandbox."""
    yield from places([request.param])


def run(place: Place, statements: str) -> Any:
    """What a fresh worker there finds; its ``result`` is JSON, hence Any."""
    taken = place.bench.take()
    result = place.bench.run(taken, statements)
    place.bench.end(taken)
    return result


def pids_of(pid: int) -> list[int]:
    """A process's children, and theirs."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in pids_of(child)]


def test_a_worker_becomes_ready_and_works(place: Place) -> None:
    """It says READY, runs, and answers."""
    assert 42 == run(place, "result = 6 * 7")


def test_output_arrives(place: Place) -> None:
    """What it prints on either stream comes to its listener."""
    taken = place.bench.take()
    place.bench.run(taken, "import os; os.write(1, b'one'); os.write(2, b'two')")
    place.bench.until(lambda: taken[1].output == b"onetwo", "the output")
    place.bench.end(taken)


def test_host_uid_is_that_of_the_slot(place: Place) -> None:
    """No process of a worker is root on the host; in full isolation it has a reserved uid."""
    taken = place.bench.take()
    # A worker that is just being made is still the launcher itself for a moment.
    place.bench.until(lambda: place.bench.pool._ready, "the next worker")
    pids = set(pids_of(place.started.pid)) - place.started.zygote
    uids = {int(line.split()[at]) for pid in pids for line in status(pid, "Uid:") for at in (1, 2, 3, 4)}
    groups = {line for pid in pids for line in status(pid, "Groups:")}
    place.bench.end(taken)
    assert pids
    if os.geteuid() or place.isolation == "user":
        assert {place.uid} == uids
    else:
        assert uids <= set(range(SLOTS[0], SLOTS[1] + 1))
        assert {"Groups:"} == {line.strip() for line in groups}


def status(pid: int, name: str) -> list[str]:
    """Lines of a process's status."""
    return [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)]


def test_only_four_descriptors(place: Place) -> None:
    """Nothing to read, the output twice, the channel; no other descriptor."""
    found = run(
        place,
        "import os\n"
        "def open_(n):\n"
        "    try: return bool(os.fstat(n))\n"
        "    except OSError: return False\n"
        "result = [n for n in range(300) if open_(n)], os.read(0, 1), os.fstat(1) == os.fstat(2)",
    )
    assert [[0, 1, 2, 3], b"", True] == found


def test_environment_is_empty_but_for_fixed_names(place: Place) -> None:
    """Nothing of the daemon's environment is there."""
    names = run(place, "import os; result = sorted(os.environ)")
    assert set(names) <= {"HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PWD", "TZ"}


def test_limits(place: Place) -> None:
    """Descriptors, the size of a file and core dumps are limited, and stay so."""
    found = run(
        place,
        "import resource as r\n"
        "result = [r.getrlimit(k) for k in (r.RLIMIT_CORE, r.RLIMIT_NOFILE, r.RLIMIT_FSIZE)]\n"
        "try: r.setrlimit(r.RLIMIT_NOFILE, (512, 512)); result = 'raised'\n"
        "except (ValueError, PermissionError): pass",
    )
    assert [[0, 0], [256, 256], [CEILINGS.scratch] * 2] == found


def test_its_own_interpreter_can_be_started(place: Place) -> None:
    """A task may start Python as a subprocess."""
    found = run(
        place,
        "import subprocess, sys\n"
        "result = subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True).stdout",
    )
    assert b"7\n" == found


def test_package_appears_in_a_running_worker(place: Place) -> None:
    """A warm worker imports what was mounted after it was started."""
    taken = place.bench.take("demo", VERSION)
    found = place.bench.run(
        taken, "import sys; sys.path.append(packages); import demo; result = demo.answer, demo.__file__"
    )
    place.bench.end(taken)
    assert isinstance(found, list)
    assert 42 == found[0]
    if place.isolation != NONE:
        assert "/task/packages/demo/__init__.py" == found[1]


def test_an_unknown_package_is_refused(place: Place) -> None:
    """The fault says which."""
    with pytest.raises(SandboxError, match="other"):
        place.bench.take("other", VERSION)


def test_a_worker_cannot_change_the_cache(place: Place) -> None:
    """Neither its package, nor what others get of the same version."""
    taken = place.bench.take("demo", VERSION)
    place.bench.run(
        taken,
        "import os\n"
        "for action in (lambda: open(packages + '/demo/__init__.py', 'w'),\n"
        "               lambda: open(packages + '/demo/new', 'w'), lambda: os.mkdir(packages + '/x'),\n"
        "               lambda: os.chmod(packages + '/demo/__init__.py', 0o777)):\n"
        "    try: action(); result = 'changed'\n"
        "    except OSError: pass",
    )
    place.bench.end(taken)
    original = place.started.cache / "demo" / VERSION / "__init__.py"
    assert "answer = 42\n" == original.read_text()
    assert 0o777 != original.stat().st_mode & 0o777


def test_package_mount_is_read_only(sandboxed: Place) -> None:
    """In a sandbox the kernel says so."""
    taken = sandboxed.bench.take("demo", VERSION)
    found = sandboxed.bench.run(taken, "open(packages + '/demo/new', 'w')")
    sandboxed.bench.end(taken)
    assert "Read-only file system" in str(found)


def test_scratch_is_writable_and_its_own(place: Place) -> None:
    """The working directory is empty, writable and no other worker's."""
    assert [] == run(place, "import os; result = os.listdir('.'); open('left', 'w').write('x')")
    assert [] == run(place, "import os; result = os.listdir('.')")


def test_the_daemon_cannot_be_found(sandboxed: Place) -> None:
    """Neither its key, nor the scratch of others, nor its processes and their environment are there."""
    runtime = str(sandboxed.started.runtime)
    found = run(
        sandboxed,
        "import os\n"
        f"paths = {runtime!r}, '/run', '/root', '/home', '/sys', '/etc/shadow'\n"
        "result = [os.path.exists(path) for path in paths]\n"
        "result.append(max(int(n) for n in os.listdir('/proc') if n.isdigit()) < 100)\n"
        "result.append(b'PYTHONPATH' in b''.join(open(f'/proc/{n}/environ', 'rb').read()\n"
        "              for n in os.listdir('/proc') if n.isdigit()))",
    )
    assert [False] * 6 + [True, False] == found


@pytest.mark.skipif(os.geteuid() != 0, reason="full isolation needs root, and this is not root")
def test_the_key_cannot_be_read_even_without_a_sandbox() -> None:
    """As root the slot uid alone keeps a worker from key and foreign scratch."""
    for place in places([NONE]):
        other = place.bench.take()
        scratch = place.bench.run(other, "import os; open('private', 'w').write('x'); result = os.getcwd()")
        found = run(
            place,
            "result = []\n"
            f"for path in ({str(place.key)!r}, {str(scratch)!r} + '/private', '/etc/shadow'):\n"
            "    try: result.append(open(path).read())\n"
            "    except OSError as fault: result.append(fault.errno)",
        )
        assert [13, 13, 13] == found
        place.bench.end(other)


def test_the_network_is_not_reachable(sandboxed: Place) -> None:
    """Neither the host's loopback, nor the world, nor abstract sockets."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0pydra-test-{os.getpid()}")
        abstract.listen()
        port = server.getsockname()[1]
        found = run(
            sandboxed,
            "import socket\nresult = []\n"
            f"here, away, name = ('127.0.0.1', {port}), ('192.0.2.1', 9), '\\0pydra-test-{os.getpid()}'\n"
            "inet, unix = socket.AF_INET, socket.AF_UNIX\n"
            "for family, address in ((inet, here), (inet, away), (unix, name)):\n"
            "    try: s = socket.socket(family)\n"
            "    except OSError as fault: result.append(fault.errno); continue\n"
            "    with s:\n"
            "        s.settimeout(2)\n"
            "        result.append(s.connect_ex(address))",
        )
    assert [1, 1, 111] == found


def test_no_new_privileges_and_no_capabilities(sandboxed: Place) -> None:
    """Set-uid programs do not help, and new namespaces are refused."""
    found = run(
        sandboxed,
        "import ctypes\n"
        "lines = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines())\n"
        "result = [lines['NoNewPrivs'], int(lines['CapEff'], 16), int(lines['CapBnd'], 16),\n"
        "          ctypes.CDLL(None).unshare(0x10000000), ctypes.CDLL(None).unshare(0x00020000)]",
    )
    assert ["1", 0, 0, -1, -1] == found


@pytest.mark.parametrize(
    "path", ["/x", "/dev/x", "/etc/x", "/usr/x", "/opt/pydra/site/x", "/proc/sys/kernel/hostname"]
)
def test_nothing_else_can_be_written(sandboxed: Place, path: str) -> None:
    """Everything but scratch, /tmp and /dev/shm is read-only."""
    found = str(run(sandboxed, f"open({path!r}, 'w').write('x')"))
    assert "Read-only file system" in found or "Permission denied" in found


@pytest.mark.parametrize("path", ["/tmp/x", "/dev/shm/x"])
def test_memory_file_systems_have_an_end(sandboxed: Place, path: str) -> None:
    """64 MiB, and not a byte more."""
    found = run(
        sandboxed,
        f"import os\nn = 0\nf = os.open({path!r}, os.O_CREAT | os.O_WRONLY)\n"
        "try:\n"
        "    while n < 2**30: n += os.write(f, bytes(2**20))\n"
        "except OSError as fault: result = fault.errno, n",
    )
    assert [28, 64 * 2**20] == found


def test_names_inside_are_neutral(sandboxed: Place) -> None:
    """A task sees a user, a host and paths that are the same everywhere."""
    found = run(
        sandboxed,
        "import os, pwd, socket, sys\n"
        "name = pwd.getpwuid(os.getuid()).pw_name\n"
        "result = [os.getuid(), name, socket.gethostname(), os.getcwd(), sys.argv]",
    )
    assert [1000, "worker", "pydra", "/task/work", ["-c"]] == found


def test_full_isolation_needs_root() -> None:
    """And root can have it."""
    assert (os.geteuid() == 0) == (FULL in isolations())
