# SPDX-License-Identifier: MIT
"""What of the journal is written without its thread."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pydra.cluster.node.journal_writer import QUICK_SIZE, RETRY_S, SLOW_S, WARY_S
from pydra.model.ids import Attempt
from tests.support.outboxes import OutboxBench

LARGE = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(LARGE).hexdigest()
FULL = OSError(errno.ENOSPC, "No space left on device")

Start = Callable[[], OutboxBench]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a node on the same disk, each time; nothing of them is left."""
    started: list[OutboxBench] = []

    def start() -> OutboxBench:
        started.append(OutboxBench(tmp_path, quick_size=QUICK_SIZE))
        return started[-1]

    yield start
    for bench in started:
        bench.kill()


def test_written_at_once(start: Start) -> None:
    """A small record is written, and then sent, without the thread; it outlives a kill."""
    bench = start()
    bench.link()
    bench.finish(1)
    bench.hold()
    calls = len(bench.calls)
    message = bench.finish(2)
    assert message == bench.sent[-1]
    assert calls == len(bench.calls)
    assert (Attempt(1, 1), Attempt(1, 2)) == start().outbox.attempts()


def test_not_written_at_once(start: Start) -> None:
    """The thread writes what is long, what has a blob, what is synced, and what comes while it writes."""
    bench = start()
    bench.finish(1)
    assert "_write" == bench.calls[-1]
    bench.link()
    for number, result, digest in ((2, bytes(QUICK_SIZE), ""), (3, LARGE, DIGEST)):
        bench.calls.clear()
        bench.finish(number, result, digest)
        assert "_write" in bench.calls
    bench.hold()
    long = bench.finish(4, bytes(QUICK_SIZE))
    short = bench.finish(5)
    assert long not in bench.sent
    assert short not in bench.sent
    bench.release()
    assert [long, short] == bench.sent[-2:]
    bench.stop()
    assert 5 == len(start().outbox.attempts())


def test_a_slow_disk_is_left_to_the_thread(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while after a write at once that took long; then it is tried again."""
    bench = start()
    bench.link()
    append = bench.journal.append

    def slowly(records: Sequence[bytes], sync: bool) -> None:
        bench.clock.advance(2 * SLOW_S)
        append(records, sync)

    monkeypatch.setattr(bench.journal, "append", slowly)
    calls = len(bench.calls)
    bench.finish(1)
    assert calls == len(bench.calls)
    bench.finish(2)
    assert calls + 1 == len(bench.calls)
    bench.clock.advance(WARY_S)
    bench.finish(3)
    assert calls + 1 == len(bench.calls)
    assert 3 == len(bench.sent)


def test_a_disk_that_refuses_a_write_at_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if the thread had been refused: told at once, and written when the disk takes something."""
    bench = start()
    bench.link()

    def refuse(records: Sequence[bytes], sync: bool) -> None:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(bench.journal, "append", refuse)
        one = bench.finish(1)
    assert [one] == bench.sent
    assert "No space left on device" in bench.outbox.refusal()
    bench.clock.advance(RETRY_S)
    assert "" == bench.outbox.refusal()
    assert (Attempt(1, 1),) == start().outbox.attempts()
