# SPDX-License-Identifier: MIT
"""What was answered is stored: after a kill, on a full disk, on a disk that fails."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pydra.cluster.store.store import DjangoStore
from pydra.errors import StoreError
from pydra.model.changes import InsertInstance
from pydra.model.instance import Payload
from tests.support.instances import queued_instance
from tests.support.threads import PumpedReactor

ROOT = Path(__file__).parents[2]

# Submits instances, several at a time, and prints an id when its commit was answered.
WRITER = """
import sys
from pathlib import Path
from twisted.internet.defer import Deferred
from pydra.cluster.store.store import DjangoStore
from pydra.model.changes import InsertInstance
from tests.support.instances import queued_instance
from tests.support.threads import PumpedReactor

def submit(number):
    done = Deferred.fromCoroutine(store.commit([InsertInstance(queued_instance(number))]))
    done.addCallback(answered)

def answered(outcomes):
    global following
    sys.stdout.write(f"{outcomes[0].instance}\\n")
    sys.stdout.flush()
    submit(following)
    following += 1

reactor = PumpedReactor()
store = reactor.wait(DjangoStore.open(Path(sys.argv[1]), reactor, print))
following = reactor.wait(store.highest_instance()) + 1
for _ in range(5):
    submit(following)
    following += 1
while True:
    reactor._run(60)
"""


def stored(database: Path) -> set[int]:
    """The ids in a store that nobody has open, which is sound."""
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT id FROM pydra_instance").fetchall()
    connection.close()
    return {number for (number,) in rows}


def test_a_killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    """Kill after kill, at a random moment each; at most the commits that were under way are more."""
    database = tmp_path / "store.sqlite3"
    answered: set[int] = set()
    generator = random.Random(7)
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(database)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout is not None
            wanted = generator.randrange(1, 400)
            for _, line in zip(range(wanted), process.stdout, strict=False):
                answered.add(int(line))
            process.send_signal(signal.SIGKILL)
            # The last line may be half of one.
            answered |= {int(line) for line in process.stdout if line.endswith("\n")}
        assert process.returncode == -signal.SIGKILL

        found = stored(database)
        assert set() == answered - found
        assert len(found - answered) <= 5 * 6
    assert len(answered) > 100

    reactor = PumpedReactor()
    store = reactor.wait(DjangoStore.open(database, reactor, pytest.fail))
    assert 7 == store.epoch
    assert len(stored_by(reactor, store)) == len(found)
    reactor.wait(store.close())


def stored_by(reactor: PumpedReactor, store: DjangoStore) -> set[int]:
    """The ids that an open store tells."""
    return {instance.id for instance in reactor.wait(store.unfinished())}


def fill(reactor: PumpedReactor, store: DjangoStore, first: int) -> tuple[set[int], StoreError]:
    """Commit large instances until it fails: the answered ids, and the failure."""
    answered: set[int] = set()
    for number in range(first, first + 500):
        args = Payload(60_000, b"x" * 60_000)
        try:
            reactor.wait(store.commit([InsertInstance(queued_instance(number, args=args))]))
        except StoreError as error:
            return answered, error
        answered.add(number)
    pytest.fail("the disk did not become full")


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"root may not mount here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root_only
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_refuses_writes_and_recovers(tmp_path: Path) -> None:
    """Reads work meanwhile, and after space returns commits do; nothing that was answered is missing."""
    reactor = PumpedReactor()
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * 500_000)
        store = reactor.wait(DjangoStore.open(disk / "store.sqlite3", reactor, pytest.fail))

        answered, error = fill(reactor, store, 1)
        assert str(error) == "The disk of the store is full; nothing was changed."
        assert answered == stored_by(reactor, store)
        with pytest.raises(StoreError, match="full"):
            reactor.wait(store.commit([InsertInstance(queued_instance(900, args=Payload(1, b"x" * 60_000)))]))

        ballast.unlink()
        more, _ = fill(reactor, store, 1000)
        assert more
        reactor.wait(store.close())
        assert answered | more == stored(disk / "store.sqlite3")


def test_a_failing_disk_stops_the_store(tmp_path: Path) -> None:
    """It is told once, nothing is tried again, and a restart finds all that was answered."""
    reasons: list[str] = []
    reactor = PumpedReactor()
    database = tmp_path / "store.sqlite3"
    store = reactor.wait(DjangoStore.open(database, reactor, reasons.append))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Beyond this size a write fails, and not for want of space: to SQLite the disk is bad.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        answered, error = fill(reactor, store, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "disk I/O error" in str(error)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"stopped, nothing was changed: .*disk I/O error"):
            reactor.wait(store.commit([InsertInstance(queued_instance(900))]))
    assert ["the store's disk or file is bad: disk I/O error"] == reasons
    reactor.wait(store.close())

    assert answered == stored(database)
    again = reactor.wait(DjangoStore.open(database, reactor, pytest.fail))
    assert answered == stored_by(reactor, again)
    reactor.wait(again.close())
