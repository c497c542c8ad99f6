# SPDX-License-Identifier: MIT
"""
What a hostile task can do, with every layer on at once: one test for each row of the list of behaviours.

Rows 1 to 14, 18 and 22 to 25 come from one run of one program in each isolation; the others, which use up
something, from runs of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.sandbox.launcher.configuration import FULL, NONE
from pydra.cluster.sandbox.worker_process import OUTPUT_A_SECOND, OUTPUT_BURST
from pydra.cluster.wire.frames import RUN
from tests.support import hostile
from tests.support.launchers import BOUNDS, GROUP, Bench, isolations, launcher
from tests.support.packages import VERSION, put_package

SECRET = "the password of the database"
NOT_THERE, DENIED, READ_ONLY, FULL_DISK = "ENOENT", "EPERM", "EROFS", "ENOSPC"
NO_SUCH_PROCESS, NO_SUCH_CALL = "ESRCH", "ENOSYS"


class Place:
    """A bench with one launcher that has all layers, and a package in its cache."""

    def __init__(self, directory: Path, isolation: str) -> None:
        self.isolation = isolation
        self.shared = directory / "shared"
        self.shared.mkdir()
        self.set_uid = self.shared / "id"
        shutil.copy("/usr/bin/id", self.set_uid)
        self.set_uid.chmod(0o4755)
        os.environ["DATABASE_PASSWORD"] = SECRET
        self._entered = launcher(directory, isolation, mounts=(("shared", str(self.shared)),))
        self.started = self._entered.__enter__()
        del os.environ["DATABASE_PASSWORD"]
        put_package(self.started)
        self.bench = Bench(self.started, isolation)

    def close(self) -> None:
        """End all of it."""
        self.bench.close()
        self._entered.__exit__(None, None, None)

    def run(self, statements: str) -> Any:
        """The JSON that a fresh worker answers, hence Any."""
        taken = self.bench.take("demo", VERSION)
        result = self.bench.run(taken, statements)
        self.bench.end(taken)
        return result

    def end_of(self, statements: str) -> WorkerExit:
        """How a worker ends by these statements, or by what is done about them."""
        taken = self.bench.take("demo", VERSION)
        taken[0].send([RUN, statements])
        self.bench.until(lambda: taken[1].frames or taken[1].ending, "an answer or the end")
        if taken[1].ending is None:
            taken[0].kill()
        return self.bench.ending(taken)


@pytest.fixture(scope="module", params=[kind for kind in isolations() if kind != NONE])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place in each isolation that has a sandbox."""
    with tempfile.TemporaryDirectory() as directory:
        made = Place(Path(directory), request.param)
        yield made
        made.close()


@pytest.fixture(scope="module")
def found(place: Place) -> dict[int, Any]:
    """What the hostile program got, by row."""
    key = place.started.runtime / "master.key"
    key.write_text("the key")
    key.chmod(0o600)
    abstract = f"pydra-hostile-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        answers = place.run(
            hostile.program(
                daemon=place.started.pid,
                key=str(key),
                scratch=str(place.started.scratch),
                port=server.getsockname()[1],
                abstract=abstract,
                secret=SECRET,
                set_uid="/data/shared/id",
            )
        )
    try:
        return {int(row): answer for row, answer in json.loads(answers).items()}
    except ValueError:
        raise AssertionError(f"The program failed: {answers}") from None


def test_row_1_the_shadow_file_is_not_there(found: dict[int, Any]) -> None:
    """Nothing of the host's /etc is."""
    assert NOT_THERE == found[1]


def test_row_2_the_key_is_not_there(found: dict[int, Any]) -> None:
    """Not by the name that the daemon has for it."""
    assert NOT_THERE == found[2]


def test_row_3_the_scratch_of_others_is_not_there(found: dict[int, Any]) -> None:
    """Neither by its name on the host nor by that in the zygote's room; there is its own alone."""
    assert [NOT_THERE, NOT_THERE, ["packages", "work"]] == found[3]


def test_row_4_the_daemon_cannot_be_traced(found: dict[int, Any]) -> None:
    """Nor its memory read, nor its descriptors taken."""
    assert [DENIED] * 3 == found[4]


def test_row_5_the_daemon_cannot_be_seen(found: dict[int, Any]) -> None:
    """Its environment and memory are not in /proc, where only the sandbox's own processes are."""
    assert [NOT_THERE, NOT_THERE] == found[5][:2]
    assert found[5][2] <= 3


def test_row_6_the_daemon_gets_no_signal(place: Place, found: dict[int, Any]) -> None:
    """Neither by its number nor as one of all."""
    assert [NO_SUCH_PROCESS, 0] == found[6]
    assert place.started.process.poll() is None


def test_row_7_the_environment_of_the_daemon_is_not_there(found: dict[int, Any]) -> None:
    """Not in that of any process that can be seen."""
    assert found[7] is False


def test_row_8_there_are_four_descriptors(found: dict[int, Any]) -> None:
    """Nothing was left open for it."""
    assert [0, 1, 2, 3] == found[8]


def test_row_9_nothing_can_be_connected_to(found: dict[int, Any]) -> None:
    """Not this machine, not the world, not the host's abstract sockets."""
    assert [DENIED, DENIED, "ECONNREFUSED"] == found[9]


def test_row_10_no_other_sockets_can_be_made(found: dict[int, Any]) -> None:
    """Netlink, vsock, packet, alg, raw ones."""
    assert [DENIED] * 6 == found[10]


def test_row_11_a_set_uid_program_helps_nobody(place: Place, found: dict[int, Any]) -> None:
    """It can be seen and run here, and stays whoever ran it."""
    assert "1000" == found[11]
    assert 0 == place.set_uid.stat().st_uid or os.geteuid()


def test_row_12_there_are_no_new_namespaces(found: dict[int, Any]) -> None:
    """Nor mounts."""
    assert [-1, -1, -1, NO_SUCH_CALL, DENIED, DENIED] == found[12]


def test_row_13_large_parts_of_the_kernel_are_closed(found: dict[int, Any]) -> None:
    """Keys, io_uring, userfaultfd, bpf, perf, handles, clocks, modules."""
    assert [DENIED, DENIED, NO_SUCH_CALL, *[DENIED] * 9] == found[13]


def test_row_14_foreign_calls_are_the_end(found: dict[int, Any]) -> None:
    """Those of x32 and of the 32-bit architecture."""
    assert ["SIGSYS", "SIGSYS"] == found[14]


def test_row_18_descriptors_have_an_end(found: dict[int, Any]) -> None:
    """256 with the four that it has."""
    assert 252 == found[18]


def test_row_22_the_system_cannot_be_changed(found: dict[int, Any]) -> None:
    """Neither directories nor the kernel's settings, nor one's own priority, limits, devices, identity."""
    assert [READ_ONLY] * 5 == found[22][:5]
    assert found[22][5] in (READ_ONLY, "EACCES")
    assert NOT_THERE == found[22][6]
    assert found[22][7] in ("EACCES", DENIED)
    assert ["ValueError", DENIED, "EINVAL", DENIED] == found[22][8:]


def test_row_23_dev_is_read_only(found: dict[int, Any]) -> None:
    """It is memory without a size otherwise."""
    assert [READ_ONLY] * 2 == found[23]


def test_row_24_a_set_uid_file_in_the_scratch_is_nobodys(place: Place, found: dict[int, Any]) -> None:
    """It can be marked so, and no other user of the machine reaches it."""
    assert "0o6755" == found[24]
    if os.geteuid() == 0:
        taken = place.bench.take("demo", VERSION)
        place.bench.run(taken, "import os; open('tool', 'w'); os.chmod('tool', 0o4755)")
        [tool] = list(place.started.scratch.glob("*/*/work/tool"))
        seen = subprocess.run(["test", "-e", str(tool)], user=65534, group=65534, extra_groups=[])
        place.bench.end(taken)
        assert 0 != seen.returncode


def test_row_25_the_names_of_mounts_say_nothing(found: dict[int, Any]) -> None:
    """They are the same on every machine, but for the shared data, which the site has named."""
    expected = {"/", "/bin", "/lib", "/lib64", "/sbin", "/tmp", "/usr", "/etc", "/proc", "/data/shared"}
    points = found[25]["points"]
    assert not found[25]["secret"]
    strange = [
        name for name in points if name not in expected and not name.startswith(("/dev", "/opt/pydra"))
    ]
    assert ["/task/packages", "/task/work"] == [name for name in strange if not name.startswith("/proc/")]


# What uses up something.

BOMB = """
import os, time
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            time.sleep(100)
            os._exit(0)
        count += 1
except OSError as fault:
    result = count, fault.errno
"""


def test_row_15_a_fork_bomb_stops_at_the_limit(place: Place) -> None:
    """And is the reason of the end; a neighbour does not notice."""
    other = place.bench.take("demo", VERSION)
    bomb = place.bench.take("demo", VERSION)
    assert [BOUNDS.processes - 1, 11] == place.bench.run(bomb, BOMB)
    neighbour = "import subprocess; result = subprocess.run(['true']).returncode"
    assert 0 == place.bench.run(other, neighbour)
    ending = place.bench.end(bomb)
    assert "process limit of 64 reached" == ending.limit
    assert "" == place.bench.end(other).limit


def test_row_15_threads_count_too(place: Place) -> None:
    """A thread is a process to the kernel."""
    program = (
        "import threading\nstarted = 0\nwait = threading.Event().wait\n"
        "try:\n"
        "    while started < 1000: threading.Thread(target=wait, daemon=True).start(); started += 1\n"
        "except RuntimeError: result = started"
    )
    taken = place.bench.take("demo", VERSION)
    assert BOUNDS.processes - 1 == place.bench.run(taken, program)
    assert "process limit of 64 reached" == place.bench.end(taken).limit


def test_row_16_memory_has_an_end(place: Place) -> None:
    """One process that takes more than all may is ended, and the limit is why."""
    ending = place.end_of(
        "held = [bytes([7]) * (8 * 2**20) for _ in range(250)]\nimport time; time.sleep(20)"
    )
    assert ("memory limit of 512 MiB reached", 137) == (ending.limit, ending.status)


def test_row_16_many_processes_have_no_more_memory_than_one(place: Place) -> None:
    """Eight children with less than the limit each are ended together."""
    program = (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        held = bytes([7]) * (150 * 2**20); time.sleep(600); os._exit(0)\n"
        "time.sleep(600)"
    )
    ending = place.end_of(program)
    assert "memory limit of 512 MiB reached" == ending.limit


def test_row_16_address_space_has_an_end(place: Place) -> None:
    """Where no group limits memory, reserving without using is limited too."""
    found = place.run("result = 'all'\ntry: bytearray(100 * 2**30)\nexcept MemoryError: result = 'refused'")
    if not place.isolation.startswith(FULL):
        assert "refused" == found


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_row_17_memory_file_systems_have_an_end(place: Place, directory: str) -> None:
    """64 MiB each, and they are not the end of the task."""
    program = (
        f"import os\nn = 0\nf = os.open({directory + '/x'!r}, os.O_CREAT | os.O_WRONLY)\n"
        "try:\n"
        "    while n < 2**30: n += os.write(f, bytes(2**20))\n"
        "except OSError as fault: result = fault.errno, n"
    )
    assert [28, 64 * 2**20] == place.run(program)


def test_row_17_the_scratch_has_an_end(place: Place) -> None:
    """Many files together are seen, and the limit is the reason of the end."""
    program = (
        "import os, time\n"
        "for number in range(40):\n"
        "    with open(f'file-{number}', 'wb') as f: f.write(os.urandom(2**20) * 10)\n"
        "time.sleep(600)"
    )
    ending = place.end_of(program)
    assert ("scratch limit of 256 MiB reached", 137) == (ending.limit, ending.status)


def test_row_17_a_file_has_an_end(place: Place) -> None:
    """No file is larger than the scratch may be, and that is told too."""
    program = (
        "import os\nn = 0\nf = os.open('x', os.O_CREAT | os.O_WRONLY)\n"
        "try:\n"
        "    while n < 2**30: n += os.write(f, bytes(2**22))\n"
        "except OSError as fault: result = fault.errno"
    )
    taken = place.bench.take("demo", VERSION)
    taken[0].send([RUN, program])
    place.bench.until(lambda: taken[1].frames or taken[1].ending, "an answer or the end")
    if taken[1].frames:
        assert 27 == taken[1].frames[0][1]
        taken[0].kill()
    assert "scratch limit of 256 MiB reached" == place.bench.ending(taken).limit


def test_row_17_files_have_an_end(place: Place) -> None:
    """A million empty files take more than their bytes; hiding them helps nothing."""
    program = (
        "import os, time\nos.mkdir('hidden')\n"
        "for number in range(6000): open(f'hidden/{number}', 'w').close()\n"
        "os.chmod('hidden', 0)\ntime.sleep(600)"
    )
    assert "scratch limit of 5000 files reached" == place.end_of(program).limit


def test_row_19_a_frame_of_4_gib_is_the_end(place: Place) -> None:
    """Its header is enough."""
    ending = place.end_of("import os, time; os.write(channel, b'\\xff\\xff\\xff\\xff'); time.sleep(600)")
    assert ending.reason.startswith("protocol: ")


def test_row_20_a_flood_of_output_is_read_at_a_rate(place: Place) -> None:
    """The writer waits; the daemon does not."""
    taken = place.bench.take("demo", VERSION)
    taken[0].send([RUN, "import os\nwhile True: os.write(1, bytes(65536))"])
    begun = time.monotonic()
    place.bench.until(
        lambda: time.monotonic() - begun > 1.5 and len(taken[1].output) >= OUTPUT_BURST, "the burst"
    )
    read, passed_s = len(taken[1].output), time.monotonic() - begun
    place.bench.end(taken)
    assert read <= OUTPUT_BURST + OUTPUT_A_SECOND * passed_s + 2**20


def test_row_21_descriptors_sent_along_do_not_arrive(place: Place) -> None:
    """The kernel drops them, since nobody asks for any."""
    before = len(os.listdir("/proc/self/fd"))
    taken = place.bench.take("demo", VERSION)
    program = (
        "import array, os, socket, time\n"
        "line = socket.socket(fileno=os.dup(channel))\n"
        "held = [os.open('/dev/null', os.O_RDONLY) for _ in range(200)]\n"
        "frame = b'\\0\\0\\0\\2\\x91\\x05'\n"
        "rights, sent = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', held))], 0\n"
        "while sent < 300:\n"
        "    try: line.sendmsg([frame], rights); sent += 1\n"
        "    except OSError: time.sleep(0.001)  # too many are under way\n"
    )
    taken[0].send([RUN, program])
    place.bench.until(lambda: len(taken[1].frames) > 300, "the frames")
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    place.bench.end(taken)


def test_nothing_is_left_of_any_of_them(place: Place) -> None:
    """Scratch and groups are those of the one warm worker."""
    place.bench.until(lambda: len(place.bench.pool._workers) == len(place.bench.pool._ready) == 1, "rest")
    numbers = {str(number) for number in place.bench.pool._workers}
    place.bench.until(
        lambda: {path.name for path in place.started.scratch.glob("*/*") if path.name.isdigit()} == numbers,
        "an empty scratch",
    )
    groups = {path.name for path in Path("/sys/fs/cgroup").glob(f"*/{GROUP}/{place.started.pid}-*/*/")}
    assert groups <= numbers
