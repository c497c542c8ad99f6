# SPDX-License-Identifier: MIT
"""A large result that is held when its attempt is to stop: nobody wants it any more."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pydra.cluster.wire.messages import STOPPED, UnitFinished
from pydra.model.ids import Attempt
from tests.support.outboxes import OutboxBench

LARGE = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(LARGE).hexdigest()
FIRST, SECOND = Attempt(1, 1), Attempt(1, 2)

Start = Callable[[], OutboxBench]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a node on the same disk, each time; nothing of them is left."""
    started: list[OutboxBench] = []

    def start() -> OutboxBench:
        started.append(OutboxBench(tmp_path))
        return started[-1]

    yield start
    for bench in started:
        bench.kill()


def test_its_place_is_taken(start: Start, tmp_path: Path) -> None:
    """That the attempt stopped is told instead, once it is written; any other outcome stays."""
    bench = start()
    bench.link()
    bench.hold()
    bench.finish(1, LARGE, DIGEST)
    small = bench.finish(2)
    for attempt in (FIRST, SECOND, Attempt(9, 9)):
        bench.outbox.discard_result(attempt)
    assert [] == bench.sent
    bench.release()
    stopped = UnitFinished(FIRST, STOPPED)
    assert [small, stopped] == bench.sent
    assert [small, stopped] == start().link()
    assert not (tmp_path / DIGEST).exists()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_takes_its_place_is_synced(
    start: Start, monkeypatch: pytest.MonkeyPatch, is_restarted: bool
) -> None:
    """It is on the disk for good before it is told, as the result may have had to be; after a restart too."""
    bench = start()
    bench.link()
    bench.finish(1, LARGE, DIGEST)
    if is_restarted:
        bench = start()
        bench.link()
    synced: list[int] = []
    monkeypatch.setattr("pydra.cluster.node.journal.os.fsync", synced.append)
    bench.sent.clear()
    bench.hold()
    bench.outbox.discard_result(FIRST)
    assert ([], []) == (synced, bench.sent)
    bench.release()
    assert [UnitFinished(FIRST, STOPPED)] == bench.sent
    assert 1 == len(synced)
