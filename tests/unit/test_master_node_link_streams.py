# SPDX-License-Identifier: MIT
"""What a node may ask of the master, and what it may make of it: streams, log lines, progress."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.node_link import LINES_LIMIT, STREAMS_LIMIT
from pydra.cluster.master.payloads import node_blobs
from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import (
    COMPLETE,
    BlobWanted,
    LogStored,
    PackageWanted,
    RunUnit,
    Unavailable,
    UnitFinished,
    UnitLog,
    UnitProgress,
)
from pydra.errors import RemoteFault, WireError
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion
from pydra.model.instance import MESSAGE_LIMIT, Payload
from pydra.model.status import Status
from tests.support.cables import chunked
from tests.support.links import RecordingSink
from tests.support.node_links import SEAL, LinkBench, unit_log
from tests.support.pumps import result_of

ONE, TWO = InstanceId(1), InstanceId(2)
FIRST = Attempt(1, 1)
LARGE = b"\xc6" + b"large" * 20_000
DIGEST = hashlib.sha256(LARGE).hexdigest()
DEMO = PackageName("demo")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LinkBench]:
    """Instance 1 runs on the node as attempt 1.1."""
    bench = LinkBench(tmp_path)
    bench.submit(1)
    [run] = bench.greet()
    assert isinstance(run, RunUnit)
    yield bench
    bench.close()


def send(bench: LinkBench, digest: str, *pieces: bytes, kind: str = "blob") -> Deferred[None]:
    """The node sends a stream."""
    return Deferred.fromCoroutine(bench.cable.node_bulk.send(kind, digest, chunked(*pieces)))


def files(directory: Path) -> list[str]:
    """Names of all files below a directory."""
    return [path.name for path in directory.rglob("*") if path.is_file()]


def test_a_large_result(bench: LinkBench, tmp_path: Path) -> None:
    """A result that came as a blob is stored by its digest and its true size."""
    assert result_of(send(bench, DIGEST, LARGE[:1000], LARGE[1000:])) is None
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(3, b"inline", DIGEST)))
    assert Payload(len(LARGE), sha256=DIGEST) == bench.stored(1).result
    assert LARGE == bench.blobs.read(DIGEST)
    assert [DIGEST] == files(tmp_path)


def test_a_large_result_that_nobody_wants(bench: LinkBench, tmp_path: Path) -> None:
    """Its blob is removed at once; of two results with one content it stays for the one that counts."""
    result = Payload(3, sha256=DIGEST)
    result_of(send(bench, DIGEST, LARGE))
    bench.tell(UnitFinished(Attempt(1, 9), COMPLETE, result))
    assert [] == files(tmp_path)
    for attempt in (FIRST, Attempt(1, 9)):
        result_of(send(bench, DIGEST, LARGE))
        bench.tell(UnitFinished(attempt, COMPLETE, result))
    assert Status.COMPLETE is bench.stored(1).status
    assert [DIGEST] == files(tmp_path)


def test_two_large_results_of_one_content(tmp_path: Path) -> None:
    """Each counts, whichever blob came before or after the other one was named."""
    bench = LinkBench(tmp_path)
    for number in (1, 2):
        bench.submit(number)
    bench.greet(slots=2)
    for _ in range(2):
        result_of(send(bench, DIGEST, LARGE))
    for attempt in (FIRST, Attempt(1, 2)):
        bench.tell(UnitFinished(attempt, COMPLETE, Payload(3, sha256=DIGEST)))
    assert [DIGEST] * 2 == [bench.stored(number).result.sha256 for number in (1, 2)]  # type: ignore[union-attr]
    assert {} == bench.link._blobs.came
    bench.close()


def test_a_blob_of_an_earlier_link(bench: LinkBench) -> None:
    """A blob counts for the link that it came by; on a new one the node sends it again."""
    result_of(send(bench, DIGEST, LARGE))
    bench.cable.pull()
    bench.greet(1, (), (FIRST,))
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=DIGEST)))
    assert Status.FAILED is bench.stored(1).status


def test_a_result_that_came_without_a_name(bench: LinkBench, tmp_path: Path) -> None:
    """It gets the name of what came, and is stored when the node names the same."""
    result_of(send(bench, "whatever it says", LARGE[:1000], LARGE[1000:], kind="unnamed"))
    assert [DIGEST] == files(tmp_path)
    assert Status.RUNNING is bench.stored(1).status
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(3, sha256=DIGEST)))
    assert Payload(len(LARGE), sha256=DIGEST) == bench.stored(1).result


@pytest.mark.parametrize("came", [LARGE[:-1], LARGE + b"x", b""])
def test_a_result_of_another_name(bench: LinkBench, tmp_path: Path, came: bytes) -> None:
    """A node that names other bytes than those that came has its attempt failed."""
    result_of(send(bench, "", came, kind="unnamed"))
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=DIGEST)))
    assert Status.FAILED is bench.stored(1).status
    bench.cable.pull()
    bench.greet()
    assert [] == files(tmp_path)


@pytest.mark.parametrize("digest", ["ab" * 32, "", "../x", DIGEST.upper(), "x" * 500])
def test_a_blob_of_another_name(bench: LinkBench, tmp_path: Path, digest: str) -> None:
    """Bytes that are not what their name says are refused, and nothing of them is kept."""
    with pytest.raises(RemoteFault):
        result_of(send(bench, digest, LARGE))
    assert [] == files(tmp_path)
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(len(LARGE), sha256=digest)))
    assert Status.COMPLETE is not bench.stored(1).status or digest == ""


@pytest.mark.parametrize("kind", ["blob", "unnamed"])
def test_a_blob_that_is_too_large(
    bench: LinkBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """More than a payload may have is refused while it comes, and nothing of it is kept."""
    monkeypatch.setattr(payload, "SIZE_LIMIT", 3 * 1024 * 1024)
    megabyte = bytes(1024 * 1024)
    pieces = [megabyte, megabyte, megabyte, b"x"]
    with pytest.raises(RemoteFault, match="refused"):
        result_of(send(bench, DIGEST, *pieces, kind=kind))
    assert [] == files(tmp_path)


def test_large_blobs_come_one_after_another(bench: LinkBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second, no more than a little is taken before the first has ended, be it well or not."""
    monkeypatch.setattr(node_blobs, "LARGE", 1000)
    first, second = bench.link.stream_opened("blob", DIGEST), bench.link.stream_opened("blob", "ab" * 32)
    result_of(Deferred.fromCoroutine(first.write(LARGE)))
    result_of(Deferred.fromCoroutine(second.write(bytes(1000))))
    more = Deferred.fromCoroutine(second.write(bytes(1000)))
    assert not more.called
    result_of(Deferred.fromCoroutine(first.finish()))
    result_of(more)
    third = bench.link.stream_opened("blob", DIGEST)
    again = Deferred.fromCoroutine(third.write(LARGE))
    assert not again.called
    second.abort("the connection is lost")
    result_of(again)
    third.abort("the connection is lost")


def test_a_worker_that_hangs_in_its_result(bench: LinkBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes without a name, as slowly as it likes, holds up another such, and no blob that has one."""
    monkeypatch.setattr(node_blobs, "LARGE", 1000)
    hanging, other = bench.link.stream_opened("unnamed", ""), bench.link.stream_opened("unnamed", "")
    result_of(Deferred.fromCoroutine(hanging.write(bytes(2000))))
    waiting = Deferred.fromCoroutine(other.write(bytes(2000)))
    assert not waiting.called
    assert result_of(send(bench, DIGEST, LARGE)) is None
    hanging.abort("the worker ended")
    result_of(waiting)
    other.abort("the connection is lost")


@pytest.mark.parametrize("kind", ["blob", "unnamed"])
def test_a_blob_that_breaks_off(bench: LinkBench, tmp_path: Path, kind: str) -> None:
    """Half a blob leaves nothing."""

    async def half() -> AsyncIterator[bytes]:
        yield LARGE[:1000]
        raise WireError("gone")

    with pytest.raises(WireError):
        result_of(Deferred.fromCoroutine(bench.cable.node_bulk.send(kind, DIGEST, half())))
    assert [] == files(tmp_path)


@pytest.mark.parametrize("kind", ["package", "", "x" * 10_000])
def test_a_stream_of_another_kind(bench: LinkBench, kind: str) -> None:
    """A node may send nothing but blobs."""
    with pytest.raises(RemoteFault, match="no stream of kind") as raised:
        result_of(send(bench, "demo/a", b"x", kind=kind))
    assert 200 > len(str(raised.value))


def test_package_wanted(bench: LinkBench) -> None:
    """A package is sent by bulk, under its name and version."""
    assert [] == bench.tell(PackageWanted(DEMO, PackageVersion("a")))
    sink = bench.node.sinks["demo/a"]
    assert b"demoa" == bytes(sink.data)
    assert sink.finished


def test_a_package_that_is_not_there(bench: LinkBench) -> None:
    """The node is told what does not come, by its whole name, and why."""
    [answer] = bench.tell(PackageWanted(DEMO, PackageVersion("nothing")))
    assert isinstance(answer, Unavailable)
    assert "demo/nothing" == answer.name
    assert "There is no version nothing" in answer.reason


def test_a_package_that_cannot_be_read(bench: LinkBench) -> None:
    """A fault of the disk is told to the node too."""
    bench.packages.fault = OSError("Input/output error")
    [answer] = bench.tell(PackageWanted(DEMO, PackageVersion("a")))
    assert isinstance(answer, Unavailable)


def test_a_package_that_the_node_refuses(bench: LinkBench) -> None:
    """A node that refuses what it asked for is left alone."""

    def failing() -> RecordingSink:
        sink = RecordingSink()
        sink.fault = WireError("not good")
        return sink

    bench.node.new_sink = failing
    assert [] == bench.tell(PackageWanted(DEMO, PackageVersion("a")))
    assert bench.cable.is_up


def test_blob_wanted(bench: LinkBench) -> None:
    """Large arguments are sent by bulk, under their digest."""
    bench.blobs.put(LARGE)
    assert [] == bench.tell(BlobWanted(DIGEST))
    assert LARGE == bytes(bench.node.sinks[DIGEST].data)


@pytest.mark.parametrize("digest", [DIGEST, "", "../../etc/passwd", "x" * 100_000])
def test_a_blob_that_is_not_there(bench: LinkBench, digest: str) -> None:
    """The node is told; a name that is no digest opens no file."""
    [answer] = bench.tell(BlobWanted(digest))
    assert isinstance(answer, Unavailable)
    assert digest == answer.name


def test_asking_for_too_much(bench: LinkBench) -> None:
    """A node that asks without end and takes nothing loses its link, before it costs much memory."""
    bench.node.new_sink = lambda: RecordingSink(gated=True)
    bench.link._streams = STREAMS_LIMIT - 1
    wanted = PackageWanted(DEMO, PackageVersion("a"))
    bench.tell(wanted)
    assert bench.cable.is_up
    bench.tell(wanted)
    assert not bench.cable.is_up
    assert "too much" in bench.node.log[-1][1]
    bench.greet(1, (FIRST,))
    bench.node.new_sink = RecordingSink
    bench.tell(wanted)
    assert bench.node.sinks["demo/a"].finished


def test_log_lines(bench: LinkBench) -> None:
    """The lines of an attempt are kept and acknowledged, also those that come after its end or again."""
    assert [LogStored(FIRST, 2)] == bench.tell(unit_log(["one", "two"]))
    bench.tell(UnitFinished(FIRST, COMPLETE, Payload(1, b"\x05"), lines=2))
    assert [LogStored(FIRST, 3)] == bench.tell(unit_log(["two", "late"], first=1))
    assert ["one", "two", "late"] == bench.lines(1)


def test_the_seal_is_sent_with_the_unit(tmp_path: Path) -> None:
    """So the node can bring the lines back."""
    bench = LinkBench(tmp_path)
    bench.submit(1)
    [run] = bench.greet()
    assert isinstance(run, RunUnit)
    assert SEAL.make(NodeId(1), FIRST, ONE) == run.seal
    bench.close()


def test_lines_of_what_ended_long_ago(bench: LinkBench) -> None:
    """A master that knows nothing of an attempt any more takes its lines by their seal."""
    attempt = Attempt(0, 77)
    assert [LogStored(attempt, 1)] == bench.tell(unit_log(["old"], attempt=attempt, instance=70))
    assert ["old"] == bench.lines(70)


@pytest.mark.parametrize(
    "seal",
    [
        b"",
        bytes(16),
        SEAL.make(NodeId(2), FIRST, ONE),
        SEAL.make(NodeId(1), FIRST, TWO),
        SEAL.make(NodeId(1), Attempt(1, 2), ONE),
    ],
)
def test_foreign_log_lines(bench: LinkBench, seal: bytes) -> None:
    """Lines for what was not sent to this node are not wanted, and that is told."""
    assert [LogStored(FIRST, 0, is_wanted=False)] == bench.tell(
        UnitLog(ONE, seal, unit_log(["foreign"]).record)
    )
    assert [] == bench.lines(1)


def test_lines_that_are_none(bench: LinkBench) -> None:
    """A node that sends something else loses its link."""
    bench.tell(unit_log(["one"], count=2))
    assert not bench.cable.is_up
    assert "other lines" in bench.node.log[-1][1]


def test_more_lines_than_a_node_may_send(bench: LinkBench) -> None:
    """A node that does not wait for the archive loses its link, before it costs much memory."""
    bench.link._lines_size = LINES_LIMIT - 10
    bench.tell(unit_log(["one"]))
    assert not bench.cable.is_up


def test_lines_that_could_not_be_written(bench: LinkBench, tmp_path: Path) -> None:
    """They are not acknowledged; the node sends them again."""
    (tmp_path / "logs").write_text("in the way")
    assert [] == bench.tell(unit_log(["one"]))
    (tmp_path / "logs").unlink()
    assert [LogStored(FIRST, 1)] == bench.tell(unit_log(["one"]))
    assert bench.cable.is_up


def test_progress(bench: LinkBench) -> None:
    """Progress of a running attempt is kept."""
    bench.tell(UnitProgress(FIRST, ONE, 30, "a third"))
    assert (30, "a third") == (bench.dispatcher.progress[ONE].percent, bench.dispatcher.progress[ONE].message)


@pytest.mark.parametrize(
    "message",
    [
        UnitProgress(FIRST, ONE, 101),
        UnitProgress(FIRST, ONE, -2),
        UnitProgress(FIRST, ONE, 2**63),
        UnitProgress(FIRST, ONE, 5, "x" * (MESSAGE_LIMIT + 1)),
        UnitProgress(FIRST, TWO, 5),
        UnitProgress(Attempt(1, 2), ONE, 5),
    ],
)
def test_progress_that_cannot_be(bench: LinkBench, message: UnitProgress) -> None:
    """Progress that is out of range, too long, or of something else is dropped."""
    bench.tell(message)
    assert {} == bench.dispatcher.progress
