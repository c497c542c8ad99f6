# SPDX-License-Identifier: MIT
"""Large arguments and results of one node that are the same: each of them counts for who sent it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.payloads import node_blobs
from pydra.model.ids import InstanceId
from pydra.model.instance import Payload
from pydra.model.status import Status
from tests.support.cables import chunked
from tests.support.pumps import result_of
from tests.support.unit_links import UnitBench, asked

SAME = b"s" * 70_000
BLOB = Payload(len(SAME), sha256=hashlib.sha256(SAME).hexdigest())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[UnitBench]:
    bench = UnitBench(tmp_path)
    bench.begin()
    yield bench
    bench.close()


def send(bench: UnitBench) -> None:
    """Somebody on the node sends the blob."""
    result_of(Deferred.fromCoroutine(bench.cable.node_bulk.send("blob", BLOB.sha256, chunked(SAME))))


def test_two_ask_with_the_same_arguments(bench: UnitBench) -> None:
    """The ask of one does not take away what the other one sent; after both the arguments can go."""
    send(bench)
    send(bench)
    for index in (0, 1):
        bench.say(asked(bench.root, index, args=[b""], blobs={0: BLOB}))
    assert {0: BLOB} == bench.batches.popitem()[1].blobs
    bench.say(asked(bench.root, 2, args=[b""], blobs={0: BLOB}))
    assert Status.CANCELLING is bench.scheduler.status(InstanceId(1))


def test_a_result_that_is_as_arguments_were(bench: UnitBench) -> None:
    """An ask between a result and what tells of it does not make a failure of it."""
    bench.ask(0)
    [batch] = bench.batches.values()
    send(bench)
    send(bench)
    bench.say(asked(bench.root, 1, args=[b""], blobs={0: BLOB}))
    bench.say(bench.done(batch, results=[b""], blobs={0: BLOB}))
    [row] = bench.rows(0)
    assert BLOB == row.result


def test_arguments_of_many_units_go_when_they_are_not_needed(bench: UnitBench) -> None:
    """Once all who sent them have named them and their units are recorded, nothing is left of them."""
    send(bench)
    bench.say(asked(bench.root, 0, 1, args=[b"", b""], blobs={0: BLOB, 1: BLOB}))
    assert bench.blobs.path(BLOB.sha256).is_file()
    bench.do_all()
    assert [0, 1] == bench.complete(0, 1)
    assert not bench.blobs.path(BLOB.sha256).is_file()


def test_what_came_twice_is_forgotten_with_its_link(bench: UnitBench) -> None:
    """A node that comes back sends it again, however often it came before."""
    send(bench)
    send(bench)
    bench.cable.pull()
    bench.cable.plug()
    assert not bench.blobs.path(BLOB.sha256).is_file()


def test_what_came_too_long_ago_is_forgotten_whole(bench: UnitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that sends the same again and again, and names none of it, keeps no room of the master."""
    monkeypatch.setattr(node_blobs, "UNNAMED_LIMIT", len(SAME))
    for _ in range(3):
        send(bench)
    assert bench.blobs.path(BLOB.sha256).is_file()
    other = b"o" * 70_000
    name = hashlib.sha256(other).hexdigest()
    result_of(Deferred.fromCoroutine(bench.cable.node_bulk.send("blob", name, chunked(other))))
    assert [False, True] == [bench.blobs.path(each).is_file() for each in (BLOB.sha256, name)]
