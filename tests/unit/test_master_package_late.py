# SPDX-License-Identifier: MIT
"""A package whose description took too long is described again: the machine may have been busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.packages.describer import DESCRIBE_S
from pydra.cluster.master.packages.late import FIRST_S, TIMES
from pydra.model.package import FileError
from tests.support.libraries import LibraryBench
from tests.support.pumps import result_of

SLOW = (FileError("slow.py", "Importing it took longer than 5 seconds."),)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LibraryBench]:
    """A library with one package, of which one file took too long."""
    bench = LibraryBench(tmp_path)
    bench.write()
    looked = bench.look()
    bench.describe("tasks.One", errors=SLOW, late=True)
    result_of(looked)
    yield bench
    bench.close()


def asked(bench: LibraryBench) -> bool:
    """Whether one more look asks the package again; it tells the same as before."""
    before = len(bench.workers.taken)
    looked = bench.look()
    is_asked = len(bench.workers.taken) > before
    if is_asked:
        bench.describe("tasks.One", errors=SLOW, late=True)
    result_of(looked)
    return is_asked


def test_it_is_described_again_after_a_while(bench: LibraryBench) -> None:
    """What it told is used meanwhile; once it was in time, nobody asks any more."""
    bench.clock.advance(FIRST_S - 0.1)
    assert not asked(bench)
    assert ["demo.tasks.One"] == bench.keys()
    bench.clock.advance(0.1)
    looked = bench.look()
    assert ["demo.tasks.One"] == bench.keys()
    bench.describe("slow.Two", "tasks.One")
    result_of(looked)
    assert ["demo.slow.Two", "demo.tasks.One"] == bench.keys()
    bench.clock.advance(10_000)
    assert not asked(bench)


def test_it_is_asked_a_few_times_and_ever_more_rarely(bench: LibraryBench) -> None:
    """Code that always hangs does not take a sandbox for ever."""
    for time in range(TIMES):
        bench.clock.advance(FIRST_S * 2**time - 0.1)
        assert not asked(bench)
        bench.clock.advance(0.1)
        assert asked(bench)
        assert not asked(bench)
    bench.clock.advance(1_000_000)
    assert not asked(bench)


def test_another_version_begins_anew(bench: LibraryBench) -> None:
    """What is late of it is asked again as soon as the first was."""
    bench.clock.advance(FIRST_S)
    assert asked(bench)
    bench.write(text="x = 2\n")
    assert asked(bench)
    bench.clock.advance(FIRST_S)
    assert asked(bench)


def test_it_is_gone(bench: LibraryBench) -> None:
    """Nobody asks what is not there."""
    (bench.tasks_dir / "demo" / "tasks.py").unlink()
    (bench.tasks_dir / "demo").rmdir()
    bench.clock.advance(FIRST_S)
    assert not asked(bench)
    assert [] == bench.keys()


def test_a_new_master_asks_it_at_once(bench: LibraryBench) -> None:
    """It knows what was told, and that this was late."""
    bench.new_library()
    assert asked(bench)


def test_code_that_took_too_long_altogether(bench: LibraryBench) -> None:
    """A sandbox without an answer is late; one that ended is not."""
    bench.write(text="x = 2\n")
    looked = bench.look()
    bench.clock.advance(DESCRIBE_S)
    result_of(looked)
    assert [] == bench.keys()
    bench.clock.advance(FIRST_S)
    looked = bench.look()
    bench.workers.last.exits(WorkerExit(1, "it exited"))
    result_of(looked)
    bench.clock.advance(1_000_000)
    assert not asked(bench)
