# SPDX-License-Identifier: MIT
"""Looking at what a worker uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from pydra.cluster.sandbox.launcher import watching
from pydra.cluster.sandbox.launcher.bounds import FILES, MEBIBYTE, MEMORY, PROCESSES, SCRATCH, Bounds

BOUNDS = Bounds(64 * MEBIBYTE, 8, 0.0, MEBIBYTE, 20)


def value_of(look: Generator[None, None, str | None]) -> str | None:
    """A look to its end."""
    while True:
        try:
            next(look)
        except StopIteration as ended:
            found: str | None = ended.value
            return found


def look_at(directory: Path, bounds: Bounds = BOUNDS) -> tuple[str | None, watching.Usage]:
    """What is reached in a directory, and what was counted."""
    usage = watching.Usage()
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return value_of(watching.look_at_scratch(opened, bounds, usage)), usage
    finally:
        os.close(opened)


def test_blocks_are_counted_in_all_directories(tmp_path: Path) -> None:
    """However they are nested."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(bytes(100_000))
    (tmp_path / "other").write_bytes(b"x")
    reached, usage = look_at(tmp_path)
    assert (None, 4) == (reached, usage.files)
    assert usage.size >= 100_000
    (tmp_path / "a/more").write_bytes(os.urandom(MEBIBYTE))
    assert SCRATCH == look_at(tmp_path)[0]


def test_holes_are_free(tmp_path: Path) -> None:
    """A file of a terabyte may take no block at all."""
    with open(tmp_path / "sparse", "wb") as opened:
        os.truncate(opened.fileno(), 2**40)
    assert look_at(tmp_path)[0] is None


def test_a_file_with_many_names_is_one(tmp_path: Path) -> None:
    """Its blocks are counted once, its names each."""
    (tmp_path / "0").write_bytes(bytes(200_000))
    for number in range(1, 10):
        os.link(tmp_path / "0", tmp_path / str(number))
    reached, usage = look_at(tmp_path)
    assert (None, 10) == (reached, usage.files)
    assert usage.size < 2 * 200_000 + 65536


def test_many_files_are_too_many(tmp_path: Path) -> None:
    """Even empty ones."""
    for number in range(21):
        (tmp_path / str(number)).touch()
    assert FILES == look_at(tmp_path)[0]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """A look stays in the scratch."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there/large").write_bytes(os.urandom(MEBIBYTE))
    (tmp_path / "here/link").symlink_to(tmp_path / "there")
    (tmp_path / "here/loop").symlink_to(tmp_path / "here")
    os.mkfifo(tmp_path / "here/fifo")
    assert (None, 3) == (look_at(tmp_path / "here")[0], look_at(tmp_path / "here")[1].files)


def test_endless_nesting_counts_as_too_much(tmp_path: Path) -> None:
    """A tree is not followed deeper than any real one is."""
    deepest = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(watching.DEPTH_LIMIT + 2):
        os.mkdir("d", dir_fd=deepest)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=deepest)
        os.close(deepest)
        deepest = below
    os.close(deepest)
    assert FILES == look_at(tmp_path, BOUNDS._replace(files=10**6))[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every directory")
def test_a_hidden_directory_is_looked_at(tmp_path: Path) -> None:
    """Its owner, who we are, may always."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/large").write_bytes(os.urandom(MEBIBYTE))
    (tmp_path / "hidden").chmod(0)
    assert SCRATCH == look_at(tmp_path)[0]


def test_memory_of_processes_is_added_up() -> None:
    """What they share is counted once."""
    program = (
        "import os, time\n"
        "held = os.urandom(60 * 2**20)\n"
        "if os.fork() == 0: print('ready', flush=True)\n"
        "time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = [
            value_of(watching.look_at_processes([child.pid], bounds, memory=memory, processes=True))
            for bounds, memory in (
                (BOUNDS._replace(memory=110 * MEBIBYTE), True),
                (BOUNDS._replace(memory=50 * MEBIBYTE), True),
                (BOUNDS._replace(memory=50 * MEBIBYTE), False),
            )
        ]
        for pid in watching.threads_and_children(child.pid)[1]:
            os.kill(pid, 9)
        child.kill()
    assert [None, MEMORY, None] == found


def test_processes_are_counted_with_their_threads() -> None:
    """And those that they started."""
    program = (
        "import os, threading\n"
        "wait = threading.Event().wait\n"
        "for _ in range(5): threading.Thread(target=wait, daemon=True).start()\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0: wait()\n"
        "print('ready', flush=True); wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        count = watching.count_processes([child.pid])
        few = value_of(watching.look_at_processes([child.pid], BOUNDS, memory=False, processes=True))
        for pid in watching.threads_and_children(child.pid)[1]:
            os.kill(pid, 9)
        child.kill()
    assert (11, PROCESSES) == (count, few)


def test_a_process_that_is_gone_uses_nothing() -> None:
    """It may end while it is looked at."""
    with subprocess.Popen(["true"]) as child:
        child.wait()
    look = watching.look_at_processes([child.pid], BOUNDS, memory=True, processes=True)
    assert (0, None) == (watching.count_processes([child.pid]), value_of(look))
