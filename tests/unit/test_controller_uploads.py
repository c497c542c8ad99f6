# SPDX-License-Identifier: MIT
"""A package in the body of a request goes to where it is kept, and no more is read than that can take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.upload import GATHERED, HIGH
from pydra.errors import Conflict, InvalidParameters
from tests.support.controllers import Desk, MemoryConnection, MemoryServer, request

LIMITS = Limits(body=1_000, body_before_login=100, upload=4 * HIGH, linger=5_000)


class Sink:
    """Keeps what it is given; a write waits while it is held, and raises a fault if there is one."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.data = b""
        self.is_finished = False
        self.aborts = 0
        self.fault: Exception | None = None
        self.held: list[Deferred[None]] | None = None

    async def write(self, data: bytes) -> None:
        """Keep it."""
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if self.fault is not None:
            raise self.fault
        self.data += data

    async def finish(self) -> object:
        """The answer."""
        self.is_finished = True
        return {"package": self.package, "size": len(self.data)}

    def abort(self) -> None:
        """Count it."""
        self.aborts += 1

    def release(self) -> None:
        """Writes go on."""
        held, self.held = self.held or [], None
        for waiting in held:
            waiting.callback(None)


class Bench:
    """A server that takes packages into sinks."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.refusal: Exception | None = None
        self.hold = False
        self.server = MemoryServer(Desk().commands("cluster_info"), LIMITS, open_upload=self.open)

    def open(self, package: str) -> Sink:
        """Where a package goes."""
        if self.refusal is not None:
            raise self.refusal
        self.sinks.append(Sink(package))
        if self.hold:
            self.sinks[-1].held = []
        return self.sinks[-1]

    def begin(self, body: bytes, size: int | None = None, **headers: str) -> MemoryConnection:
        """A caller that is known sends a package, or a part of one."""
        connection = self.server.connect()
        headers = {"Authorization": f"Bearer {self.server.token}", **headers}
        head = request("POST", "/packages/demo", b"", **headers)
        head = head.replace(
            b"Content-Length: 0", b"Content-Length: %d" % (len(body) if size is None else size)
        )
        self.replies = connection.send(head, body)
        return connection


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server; every sink was ended in one way."""
    bench = Bench()
    yield bench
    bench.server.close()
    assert all(sink.is_finished + sink.aborts == 1 for sink in bench.sinks)


def test_a_package_is_taken(bench: Bench) -> None:
    """Beyond the limit of other bodies, whatever its content type; the answer is the sink's."""
    bench.begin(bytes(10_000))
    [reply] = bench.replies
    assert (200, {"package": "demo", "size": 10_000}) == (reply.status, reply.json)


def test_an_empty_package_is_the_sinks_affair(bench: Bench) -> None:
    """It is told that there is nothing."""
    bench.begin(b"")
    assert [{"package": "demo", "size": 0}] == [reply.json for reply in bench.replies]


def test_no_more_is_read_than_is_written(bench: Bench) -> None:
    """While the disk is slow the caller has to wait; then all of it is there."""
    bench.hold = True
    connection = bench.begin(bytes(HIGH // 2), 3 * HIGH)
    assert "producing" == connection.transport.producerState
    assert [] == connection.send(bytes(HIGH))
    assert "paused" == connection.transport.producerState
    bench.sinks[0].release()
    assert "producing" == connection.transport.producerState
    [reply] = connection.send(bytes(3 * HIGH // 2))
    assert 3 * HIGH == reply.json["size"]


def test_small_pieces_are_gathered(bench: Bench) -> None:
    """Few bytes wait for others, and not for the disk."""
    connection = bench.begin(b"x" * (GATHERED - 1), GATHERED + 1)
    assert b"" == bench.sinks[0].data
    connection.send(b"y")
    assert GATHERED == len(bench.sinks[0].data)
    [reply] = connection.send(b"z")
    assert b"yz" == bench.sinks[0].data[-2:]
    assert 200 == reply.status


def test_the_answer_waits_for_the_last_byte(bench: Bench) -> None:
    """It is not finished before all is written."""
    bench.hold = True
    connection = bench.begin(b"x")
    assert ([], False) == (bench.replies, bench.sinks[0].is_finished)
    bench.sinks[0].release()
    [reply] = connection.send()
    assert 1 == reply.json["size"]


def test_what_a_sink_refuses_is_told(bench: Bench) -> None:
    """In its words, after the body; nothing is finished."""
    bench.hold = True
    connection = bench.begin(b"x", 2)
    bench.sinks[0].fault = InvalidParameters(errors={"package": ["It is no package."]})
    bench.sinks[0].release()
    [reply] = connection.send(b"y")
    assert (400, {"package": ["It is no package."]}) == (reply.status, reply.json["errors"])


def test_a_fault_of_the_disk_is_internal(bench: Bench) -> None:
    """And is not told."""
    bench.hold = True
    connection = bench.begin(b"x")
    bench.sinks[0].fault = OSError(28, "No space left on device")
    bench.sinks[0].release()
    [reply] = connection.send()
    assert 500 == reply.status
    assert "space" not in reply.json["exception"]


def test_a_package_that_would_not_be_taken(bench: Bench) -> None:
    """The reason is told, and none of it is kept."""
    bench.refusal = Conflict("It is in TASKS_DIR.")
    bench.begin(bytes(10_000))
    assert [(409, "It is in TASKS_DIR.")] == [(each.status, each.json["exception"]) for each in bench.replies]


def test_a_package_that_is_too_large(bench: Bench) -> None:
    """It is refused before it comes, and in chunks when it is."""
    bench.begin(b"", 4 * HIGH + 1)
    assert [413] == [reply.status for reply in bench.replies]
    assert str(4 * HIGH) in bench.replies[0].json["exception"]
    assert [] == bench.sinks


def test_strangers_cannot_upload(bench: Bench) -> None:
    """Nothing is opened for them."""
    for authorization in ("Bearer x", ""):
        bench.begin(b"x", Authorization=authorization)
        assert [401] == [reply.status for reply in bench.replies]
        bench.begin(bytes(2_000), Authorization=authorization)
        assert [401] == [reply.status for reply in bench.replies]
    assert [] == bench.sinks


@pytest.mark.parametrize("held", [False, True])
def test_a_caller_that_goes_away(bench: Bench, held: bool) -> None:
    """What came is dropped, also if it was being written."""
    bench.hold = held
    connection = bench.begin(bytes(GATHERED), GATHERED + 1)
    connection.close()
    if held:
        assert 0 == bench.sinks[0].aborts
        bench.sinks[0].release()
    assert 1 == bench.sinks[0].aborts


def test_a_caller_that_goes_away_after_its_last_byte(bench: Bench) -> None:
    """While that is written: it is dropped as well."""
    bench.hold = True
    bench.begin(b"x").close()
    bench.sinks[0].release()
    assert (1, False) == (bench.sinks[0].aborts, bench.sinks[0].is_finished)


@pytest.mark.parametrize(
    ("verb", "path"), [("GET", "/packages/demo"), ("PUT", "/packages/demo"), ("HEAD", "/packages/a/b")]
)
def test_other_verbs(bench: Bench, verb: str, path: str) -> None:
    """Are not allowed, and leave nothing."""
    authorization = f"Bearer {bench.server.token}"
    [reply] = bench.server.connect().send(request(verb, path, b"x", Authorization=authorization))
    assert 405 == reply.status


def test_the_path_names_a_package(bench: Bench) -> None:
    """Without a name there is none; whatever the name is, it is the sink's affair."""
    authorization = f"Bearer {bench.server.token}"
    for path, status in (
        ("/packages/", 404),
        ("/packages", 404),
        ("/packages/../etc", 200),
        ("/packages/%00", 200),
    ):
        [reply] = bench.server.connect().send(request("POST", path, Authorization=authorization))
        assert status == reply.status, path
    assert ["../etc", "%00"] == [sink.package for sink in bench.sinks]


def test_a_slow_upload_has_more_time_than_a_call(bench: Bench) -> None:
    """But not for ever."""
    connection = bench.begin(b"x", 2)
    for _ in range(int(LIMITS.upload_s // 50) - 1):
        bench.server.clock.advance(50)
        assert not connection.is_closed
        connection.channel.resetTimeout()
    bench.server.clock.advance(100)
    assert connection.is_closed
