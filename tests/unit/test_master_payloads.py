# SPDX-License-Identifier: MIT
"""Arguments that a client sends ahead of the submission that names them, and results that it fetches."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.commands.instances import JSON_LIMIT
from pydra.cluster.master.commands.submissions import FORM_LIMIT
from pydra.cluster.master.payloads.unclaimed import KEPT_S, UNCLAIMED_LIMIT, PayloadUpload
from pydra.cluster.store.blobs import BlobWriter
from pydra.cluster.wire import payload
from pydra.errors import NotFound, RequestError, StoreError, TooManyRequests
from pydra.model.ids import Attempt
from pydra.model.instance import INLINE_LIMIT, Payload
from tests.support.cables import unthreaded
from tests.support.master_commands import FORMED, PLAIN, CommandsBench
from tests.support.pumps import result_of

ARGS = {"array": b"\x00\xff" * INLINE_LIMIT}
LARGE = payload.pack(ARGS)
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    bench.uses._remove_blob = lambda sha256: unthreaded(bench.blobs.remove, sha256)
    yield bench
    bench.payloads.stop()
    bench.close()


def send(bench: CommandsBench, *pieces: bytes) -> dict[str, object]:
    """A client sends a payload; what it is answered."""
    upload = bench.payloads.open()
    for piece in pieces:
        result_of(Deferred.fromCoroutine(upload.write(piece)))
    answer: dict[str, object] = result_of(Deferred.fromCoroutine(upload.finish()))
    return answer


def queue(bench: CommandsBench, digest: object, task: str = PLAIN, **other: Any) -> Any:
    """A submission that names it."""
    return bench.call("queue_task", task_key=task, args_payload=digest, **other)


def left(tmp_path: Path) -> set[str]:
    """The blobs."""
    return {path.name for path in (tmp_path / "blobs").glob("*")}


def test_arguments_that_were_sent_ahead(bench: CommandsBench, tmp_path: Path) -> None:
    """They are those of the instance, and stay."""
    assert {"sha256": DIGEST, "size": len(LARGE)} == send(bench, LARGE[:1000], LARGE[1000:])
    assert 1 == queue(bench, DIGEST)["instance_id"]
    assert Payload(len(LARGE), sha256=DIGEST) == bench.stored(1).args
    bench.clock.advance(KEPT_S)
    assert {DIGEST} == left(tmp_path)


def test_a_repeated_submission(bench: CommandsBench) -> None:
    """With the same request key it answers the same id, though the payload is taken already."""
    send(bench, LARGE)
    key = "k" * 20
    ids = [queue(bench, DIGEST, request_key=key)["instance_id"] for _ in range(2)]
    assert ids[0] == ids[1]


def in_the_call(data: bytes) -> dict[str, str]:
    """Arguments that are packed into their submission."""
    return {"task_key": PLAIN, "args_packed": binascii.b2a_base64(data, newline=False).decode()}


def test_arguments_of_submissions_that_change_nothing(bench: CommandsBench, tmp_path: Path) -> None:
    """Neither those of a repetition nor those that the store refuses are kept."""
    other = payload.pack({"array": b"\x01" * 2 * INLINE_LIMIT})
    for data in (LARGE, other):
        assert 1 == bench.call("queue_task", request_key="k" * 20, **in_the_call(data))["instance_id"]
    assert {DIGEST} == left(tmp_path)
    bench.store.refuse("The disk is full.")
    with pytest.raises(StoreError):
        bench.call("queue_task", **in_the_call(other))
    with pytest.raises(StoreError):
        bench.call("queue_task", **in_the_call(LARGE))
    assert {DIGEST} == left(tmp_path)


def test_arguments_that_the_disk_refuses(
    bench: CommandsBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission fails, and the next one with the same succeeds."""
    with monkeypatch.context() as patched:
        patched.setattr(bench.blobs, "put", lambda data: bench.blobs.read("ab" * 32))
        with pytest.raises(StoreError):
            bench.call("queue_task", **in_the_call(LARGE))
    assert 1 == bench.call("queue_task", **in_the_call(LARGE))["instance_id"]
    assert {DIGEST} == left(tmp_path)


def test_arguments_that_are_being_removed(bench: CommandsBench, tmp_path: Path) -> None:
    """The same bytes, sent while those of before go, are written after that."""
    removing: list[Deferred[None]] = []

    async def remove(sha256: str) -> None:
        removing.append(Deferred())
        await removing[-1]
        bench.blobs.remove(sha256)

    bench.uses._remove_blob = remove
    send(bench, LARGE)
    bench.clock.advance(KEPT_S)
    queued = bench.begin("queue_task", **in_the_call(LARGE))
    assert not queued.called
    removing[0].callback(None)
    assert 1 == result_of(queued)["instance_id"]
    assert LARGE == bench.blobs.read(DIGEST)
    bench.clock.advance(KEPT_S)
    assert {DIGEST} == left(tmp_path)
    assert 1 == len(removing)


def test_small_arguments_are_stored_inline(bench: CommandsBench, tmp_path: Path) -> None:
    """Bytes that JSON does not hold need no file for long."""
    small = payload.pack({"data": b"\x00"})
    queue(bench, send(bench, small)["sha256"])
    assert Payload(len(small), small) == bench.stored(1).args
    bench.clock.advance(KEPT_S)
    assert set() == left(tmp_path)


def test_arguments_in_the_submission(bench: CommandsBench) -> None:
    """Small ones that JSON does not hold travel as base64 of what they are packed to."""
    packed = binascii.b2a_base64(LARGE, newline=False).decode()
    assert 1 == bench.call("queue_task", task_key=PLAIN, args_packed=packed)["instance_id"]
    assert Payload(len(LARGE), sha256=DIGEST) == bench.stored(1).args
    for wrong in ("", "?", packed[:-3], binascii.b2a_base64(b"\x93").decode()):
        assert "args_packed" in bench.call("queue_task", task_key=PLAIN, args_packed=wrong)["errors"]


def test_what_nobody_takes_goes(bench: CommandsBench, tmp_path: Path) -> None:
    """After some minutes, and sending it again begins them anew."""
    send(bench, LARGE)
    bench.clock.advance(KEPT_S - 1)
    send(bench, LARGE)
    bench.clock.advance(KEPT_S - 1)
    assert {DIGEST} == left(tmp_path)
    bench.clock.advance(1)
    assert set() == left(tmp_path)
    assert "args_payload" in queue(bench, DIGEST)["errors"]


@pytest.mark.parametrize("digest", ["", "ab" * 32, "../../etc/passwd", "x" * 1000])
def test_an_unknown_payload(bench: CommandsBench, digest: str) -> None:
    """It is refused in words, and nothing is stored."""
    assert {"args_payload": ["there is no such payload any more; send it again."]} == queue(bench, digest)[
        "errors"
    ]


def test_a_blob_that_is_no_payload(bench: CommandsBench) -> None:
    """The result of another instance cannot be named as arguments."""
    bench.blobs.put(LARGE)
    assert "args_payload" in queue(bench, DIGEST)["errors"]


def test_with_arguments_beside_it(bench: CommandsBench) -> None:
    """They can be given in one way."""
    send(bench, LARGE)
    assert "args" in queue(bench, DIGEST, args={"x": 1})["errors"]
    assert "args" in queue(bench, DIGEST, args_packed="gA==")["errors"]


def test_a_task_with_a_form(bench: CommandsBench) -> None:
    """Its form is asked about small arguments, and large ones are refused in words."""
    small = send(bench, payload.pack({"nonsense": "x"}))["sha256"]
    assert {"start", "nonsense"} >= queue(bench, small, FORMED)["errors"].keys()
    large = send(bench, payload.pack({"array": bytes(FORM_LIMIT)}))["sha256"]
    assert "with a form" in str(queue(bench, large, FORMED)["errors"])


@pytest.mark.parametrize("data", [b"\xc1", b"\x93\x01", payload.pack([1]), payload.pack({1: 2})])
def test_small_arguments_that_are_none(bench: CommandsBench, data: bytes) -> None:
    """What is no map of names to values is refused."""
    assert "args_payload" in queue(bench, send(bench, data)["sha256"])["errors"]


def test_too_many(bench: CommandsBench) -> None:
    """Those that wait and those under way are limited; one that was taken makes room."""
    under_way = bench.payloads.open()
    for number in range(UNCLAIMED_LIMIT - 1):
        send(bench, LARGE, bytes([number]))
    with pytest.raises(TooManyRequests):
        bench.payloads.open()
    under_way.abort()
    under_way.abort()
    send(bench, LARGE)
    with pytest.raises(TooManyRequests):
        bench.payloads.open()
    queue(bench, DIGEST)
    bench.payloads.open().abort()


def test_nothing_is_no_payload(bench: CommandsBench) -> None:
    """An empty body is refused."""
    with pytest.raises(RequestError, match="no bytes"):
        send(bench)


def test_a_payload_above_the_limit(
    bench: CommandsBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused while it comes, and nothing of it is kept."""
    monkeypatch.setattr(payload, "SIZE_LIMIT", 1000)
    upload = bench.payloads.open()
    result_of(Deferred.fromCoroutine(upload.write(bytes(999))))
    with pytest.raises(RequestError):
        result_of(Deferred.fromCoroutine(upload.write(bytes(2))))
    upload.abort()
    assert set() == left(tmp_path)


async def whole(upload: PayloadUpload) -> None:
    """Send a payload in one piece."""
    await upload.write(LARGE)
    await upload.finish()


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_full_disk(
    bench: CommandsBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It is told, nothing is kept, and the place is free again."""

    def full(writer: BlobWriter, *_: object) -> None:
        raise StoreError("A blob cannot be written: no space.")

    monkeypatch.setattr(BlobWriter, step, full)
    for _ in range(UNCLAIMED_LIMIT + 1):
        upload = bench.payloads.open()
        with pytest.raises(StoreError):
            result_of(Deferred.fromCoroutine(whole(upload)))
        upload.abort()
    assert set() == left(tmp_path)


def complete(bench: CommandsBench, data: bytes) -> str:
    """Instance 1 is complete with this result; the name of its blob, if it is one."""
    bench.ready()
    bench.queue()
    digest = bench.blobs.put(data) if len(data) > INLINE_LIMIT else ""
    bench.finish(Attempt(1, 1), result=Payload(len(data), b"" if digest else data, digest))
    return digest


async def read(bench: CommandsBench, number: int) -> tuple[int, bytes]:
    """The result of an instance, as it is streamed."""
    size, chunks = await bench.instances.open_result(number)
    return size, b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    ("value", "shown", "has_download"),
    [
        ({"a": [1, 2.5, None, "x", True]}, {"a": [1, 2.5, None, "x", True]}, False),
        (b"\x00", "AA==", True),
        ({"a": {1: 2}}, {"a": {"1": 2}}, True),
        (float("nan"), "NaN", True),
    ],
)
def test_a_small_result(bench: CommandsBench, value: object, shown: object, has_download: bool) -> None:
    """JSON shows it; what JSON does not hold has a place where all of it is."""
    complete(bench, payload.pack(value))
    answer = bench.call("task_result", task_id=1)
    assert (shown, "/results/1" if has_download else None) == (answer["result"], answer["download"])
    size, data = result_of(Deferred.fromCoroutine(read(bench, 1)))
    assert (len(data), payload.pack(value)) == (size, data)


def test_a_large_result(bench: CommandsBench) -> None:
    """Its size is told, and where it is, instead of megabytes of JSON."""
    data = payload.pack(bytes(JSON_LIMIT))
    complete(bench, data)
    answer = bench.call("task_result", task_id=1)
    assert (None, len(data), "/results/1") == (answer["result"], answer["size"], answer["download"])
    assert (len(data), data) == result_of(Deferred.fromCoroutine(read(bench, 1)))


def test_no_result(bench: CommandsBench) -> None:
    """Of an unknown instance, or one that has none."""
    bench.queue()
    for number in (1, 2):
        with pytest.raises(NotFound):
            result_of(Deferred.fromCoroutine(read(bench, number)))


def test_a_result_whose_file_is_damaged(bench: CommandsBench, tmp_path: Path) -> None:
    """It is told in the place of the end of the bytes."""
    data = payload.pack(bytes(JSON_LIMIT))
    digest = complete(bench, data)
    (tmp_path / "blobs" / digest).write_bytes(data[:-1] + b"x")
    with pytest.raises(StoreError, match="damaged"):
        result_of(Deferred.fromCoroutine(read(bench, 1)))
