# SPDX-License-Identifier: MIT
"""What a node says of units is looked at before anything is made of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pydra.cluster.master.units.checks import (
    ask_fault,
    batch_fault,
    checked_results,
)
from pydra.cluster.wire.messages import HeldBatch, UnitsAsked, UnitsDone
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import INLINE_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT, Failure, Payload
from pydra.model.unit import BRANCH_LIMIT, INDEX_LIMIT

WORKER, BATCH = Attempt(1, 2), Attempt(1, 3)
CAME = {"a" * 64: 70_000}
BLOB = Payload(70_000, sha256="a" * 64)
ASK = UnitsAsked(WORKER, "Sub", [0, INDEX_LIMIT], [b"\x80", b"\x81"], b"d" * 32)
DONE = UnitsDone(WORKER, BATCH, 0, [b"\x01", b"\x02"])
HELD = HeldBatch(BATCH, WORKER, InstanceId(1), "Sub", [0, 1], b"d" * 32, 1)


@pytest.mark.parametrize("fields", [{}, {"blobs": {1: BLOB}}, {"time_limit": 5.0}])
def test_good_asks(fields: dict[str, Any]) -> None:
    """Columns of one length, digests of their size and blobs that came are good."""
    assert "" == ask_fault(msgspec.structs.replace(ASK, **fields), CAME)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"branch": ""}, "branch"),
        ({"branch": "b" * (BRANCH_LIMIT + 1)}, "branch"),
        ({"indexes": [], "args": [], "digests": b""}, "no units"),
        ({"indexes": [0, -1]}, "index"),
        ({"indexes": [0, 2**63]}, "index"),
        ({"indexes": [7, 7]}, "twice"),
        ({"indexes": [7]}, "digest"),
        ({"digests": b"d" * 31}, "digest"),
        ({"digests": b"d" * 48}, "digest"),
        ({"args": [b"\x80"]}, "arguments"),
        ({"args": [b"\x80"] * 3}, "arguments"),
        ({"args": [b"\x80", bytes(INLINE_LIMIT + 1)]}, "too large"),
        ({"blobs": {2: BLOB}}, "did not come"),
        ({"blobs": {-1: BLOB}}, "did not come"),
        ({"blobs": {0: Payload(70_000, sha256="b" * 64)}}, "did not come"),
        ({"blobs": {0: Payload(69_999, sha256="a" * 64)}}, "did not come"),
        ({"time_limit": -1.0}, "time limit"),
        ({"time_limit": float("nan")}, "time limit"),
        ({"time_limit": float("inf")}, "time limit"),
    ],
)
def test_asks_with_a_fault(fields: dict[str, Any], fault: str) -> None:
    """Anything else is told in words."""
    assert fault in ask_fault(msgspec.structs.replace(ASK, **fields), CAME)


@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ({}, True),
        ({"recorded": 2}, True),
        ({"recorded": 3}, False),
        ({"indexes": [5, 5]}, False),
        ({"recorded": -1}, False),
        ({"digests": b""}, False),
        ({"indexes": []}, False),
        ({"branch": ""}, False),
        ({"indexes": [0, 2**63]}, False),
    ],
)
def test_held_batches(fields: dict[str, Any], is_good: bool) -> None:
    """A batch has one digest for each unit and not more recorded results than units."""
    assert is_good is (batch_fault(msgspec.structs.replace(HELD, **fields)) == "")


def test_plain_results_are_as_they_came() -> None:
    """Nothing is copied of results without failures and blobs."""
    assert DONE is checked_results(DONE, CAME)


def test_failures_and_blobs() -> None:
    """A failure stays, if it is not too long, and a blob that came has the size that came."""
    failure = Failure("failed", "It raised.", "Traceback")
    done = msgspec.structs.replace(DONE, failures={0: failure}, blobs={1: Payload(5, b"x", "a" * 64)})
    checked = checked_results(done, CAME)
    assert ({0: failure}, {1: BLOB}) == (checked.failures, checked.blobs)
    long = msgspec.structs.replace(
        DONE, failures={1: Failure("c" * 101, "m" * (MESSAGE_LIMIT + 1), "t" * (TRACEBACK_LIMIT + 1))}
    )
    cut = checked_results(long, CAME).failures[1]
    assert (100, MESSAGE_LIMIT, TRACEBACK_LIMIT) == (len(cut.code), len(cut.message), len(cut.traceback))


def test_results_that_did_not_come_are_failures() -> None:
    """A blob that was not sent, and a result that is too large for a message, fail that unit alone."""
    missing = msgspec.structs.replace(DONE, blobs={1: Payload(70_000, sha256="b" * 64)})
    checked = checked_results(missing, CAME)
    assert {} == checked.blobs
    assert {1: "wire"} == {at: failure.code for at, failure in checked.failures.items()}
    large = checked_results(msgspec.structs.replace(DONE, results=[b"\x01", bytes(INLINE_LIMIT + 1)]), CAME)
    assert [b"\x01", b""] == large.results
    assert {1: "limit"} == {at: failure.code for at, failure in large.failures.items()}


@pytest.mark.parametrize(
    "fields",
    [
        {"results": []},
        {"start": -1},
        {"busy_s": -1.0},
        {"busy_s": float("nan")},
        {"failures": {2: Failure("failed", "")}},
        {"failures": {-1: Failure("failed", "")}},
        {"blobs": {2: BLOB}},
        {"failures": {0: Failure("failed", "")}, "blobs": {0: BLOB}},
    ],
)
def test_results_that_cannot_be(fields: dict[str, Any]) -> None:
    """They are refused altogether."""
    with pytest.raises(WireError):
        checked_results(msgspec.structs.replace(DONE, **fields), CAME)
