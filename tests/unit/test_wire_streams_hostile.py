# SPDX-License-Identifier: MIT
"""What a hostile peer of a bulk connection gets: the connection is closed."""

from __future__ import annotations

import pytest

from pydra.cluster.wire.outgoing import INITIAL_CREDIT
from pydra.cluster.wire.stream_frames import (
    CHUNK_LIMIT,
    Kind,
    encode,
    encode_credit,
    encode_texts,
)
from pydra.cluster.wire.streams import STREAM_LIMIT
from pydra.errors import LinkLost
from tests.support.bulk import Side, Source, pump
from tests.support.pumps import result_of, started

OPEN = encode_texts(Kind.OPEN, 1, "blob", "one")
FULL = b"".join(encode(Kind.DATA, 1, bytes(CHUNK_LIMIT)) for _ in range(INITIAL_CREDIT // CHUNK_LIMIT))

HOSTILE_TO_RECEIVER = {
    "short frame": b"\0\0\0\4" + bytes(9),
    "long frame": (CHUNK_LIMIT + 6).to_bytes(4, "big"),
    "unknown kind": encode(8, 1),  # type: ignore[arg-type]  # as a hostile peer would
    "data without a stream": encode(Kind.DATA, 1, b"x"),
    "end without a stream": encode(Kind.END, 1),
    "abort without a stream": encode_texts(Kind.ABORT, 1, "a", "b"),
    "opened twice": OPEN + OPEN,
    "number zero": encode_texts(Kind.OPEN, 0, "blob", "one"),
    "falling numbers": encode_texts(Kind.OPEN, 2, "blob", "one") + OPEN,
    "open without texts": encode(Kind.OPEN, 1, b"\x92\x01\x02"),
    "open with bad text": encode(Kind.OPEN, 1, b"\x92\xa1\xff\xa1a"),
    "long text": encode(Kind.OPEN, 1, b"\x92\xa1a\xda\x07\xd1" + b"a" * 2_001),
    "empty data": OPEN + encode(Kind.DATA, 1),
    "over credit": OPEN + FULL + encode(Kind.DATA, 1, b"x"),
    "over credit when refused": OPEN.replace(b"blob", b"refused").replace(b"\x92\xa4", b"\x92\xa7"),
    "data after end": OPEN + encode(Kind.END, 1) + encode(Kind.DATA, 1, b"x"),
    "end with a body": OPEN + encode(Kind.END, 1, b"x"),
    "too many streams": b"".join(
        encode_texts(Kind.OPEN, n + 1, "blob", str(n)) for n in range(STREAM_LIMIT + 1)
    ),
    "too many lingering streams": b"".join(
        encode_texts(Kind.OPEN, n + 1, "blob", str(n))
        + encode(Kind.DATA, n + 1, b"x")
        + encode_texts(Kind.ABORT, n + 1, "a", "b")
        for n in range(STREAM_LIMIT + 1)
    ),
    "credit without a stream": encode_credit(1, 1),
    "done without a stream": encode(Kind.DONE, 1),
    "refusal without a stream": encode_texts(Kind.REFUSE, 1, "a", "b"),
    "welcome of a server": encode(Kind.WELCOME, 0),
    "double end": OPEN + encode(Kind.DATA, 1, b"x") + encode(Kind.END, 1) + encode(Kind.END, 1),
    "abort after end": OPEN
    + encode(Kind.DATA, 1, b"x")
    + encode(Kind.END, 1)
    + encode_texts(Kind.ABORT, 1, "a", "b"),
}
HOSTILE_TO_RECEIVER["over credit when refused"] = (
    encode_texts(Kind.OPEN, 1, "refused", "one") + FULL + encode(Kind.DATA, 1, b"x")
)


@pytest.mark.parametrize("name", HOSTILE_TO_RECEIVER)
def test_hostile_frames_close_the_connection(name: str) -> None:
    """A frame that the protocol does not allow closes this connection."""
    receiver = Side(False)
    receiver.bulk.welcome()
    receiver.gated = True
    receiver.bulk.dataReceived(HOSTILE_TO_RECEIVER[name])
    assert receiver.transport.aborted == 1
    receiver.lose()
    assert len(receiver.lost) == 1


HOSTILE_TO_SENDER = {
    "credit that was not used": encode_credit(1, 11),
    "credit of nothing": encode_credit(1, 0),
    "credit of odd size": encode(Kind.CREDIT, 1, b"\1"),
    "credit for another stream": encode_credit(2, 1),
    "done before the end": encode(Kind.DONE, 1),
    "done with a body": encode(Kind.DONE, 1, b"x"),
    "second welcome": encode(Kind.WELCOME, 0),
}


@pytest.mark.parametrize("name", HOSTILE_TO_SENDER)
def test_hostile_receivers_lose_the_connection(name: str) -> None:
    """A receiver that breaks the rules loses the connection, and the sender is told."""
    sender, receiver = Side(True), Side(False)
    receiver.bulk.welcome()
    pump(sender, receiver)
    source = Source()
    sent = started(sender.bulk.send("blob", "one", source))
    source.give(b"x" * 10)
    sender.bulk.dataReceived(HOSTILE_TO_SENDER[name])
    assert sender.transport.aborted == 1
    sender.lose()
    with pytest.raises(LinkLost):
        result_of(sent)
