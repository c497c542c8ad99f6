# SPDX-License-Identifier: MIT
"""Results of units on their way to the asker: in messages that can travel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.master.units.results import Results, stored_results
from pydra.cluster.wire.messages import BATCH_LIMIT, encode
from pydra.model.ids import Attempt, InstanceId
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from pydra.model.status import Status
from pydra.model.unit import BRANCH_LIMIT, INDEX_LIMIT, UnitRow

ASKER = Attempt(1, 1)
LARGEST = Failure("failed", "\N{PILE OF POO}" * 4096, "\N{PILE OF POO}" * 65_536)


def unit(number: int, kind: str) -> tuple[int, bytes, Failure | None, Payload | None]:
    """A unit of a kind."""
    match kind:
        case "large":
            return number, bytes(INLINE_LIMIT), None, None
        case "failed":
            return number, b"", LARGEST, None
        case "blob":
            return number, b"", None, Payload(70_000, sha256=f"{number:064x}")
    return INDEX_LIMIT - number, bytes([number % 128]), None, None


@given(st.lists(st.sampled_from(["small", "small", "large", "failed", "blob"]), max_size=20))
def test_messages_that_can_travel(kinds: list[str]) -> None:
    """However large, all results come once and in order, each with its failure or blob, in small messages."""
    units = [unit(number, kind) for number, kind in enumerate(kinds)]
    results = Results(
        [index for index, _, _, _ in units],
        [result for _, result, _, _ in units],
        {at: failure for at, (_, _, failure, _) in enumerate(units) if failure is not None},
        {at: blob for at, (_, _, _, blob) in enumerate(units) if blob is not None},
    )
    told = []
    for message in results.messages(ASKER, "\N{PILE OF POO}" * BRANCH_LIMIT):
        assert len(encode(message)) <= BATCH_LIMIT
        assert message.indexes
        for at, (index, result) in enumerate(zip(message.indexes, message.results, strict=True)):
            told.append((index, result, message.failures.get(at), message.blobs.get(at)))
    assert units == told


def test_many_small_ones_are_one_message() -> None:
    """A batch is not cut without need."""
    results = Results(range(1_000), [b"\xc0"] * 1_000)
    [message] = results.messages(ASKER, "Sub")
    assert list(range(1_000)) == message.indexes


def test_stored_results() -> None:
    """Rows of units that have ended are results: inline, as blobs, or as failures; others are none."""
    blob = Payload(70_000, sha256="a" * 64)
    rows = [
        UnitRow(InstanceId(1), "Sub", 4, Status.COMPLETE, b"d" * 16, result=Payload(1, b"\x05")),
        UnitRow(InstanceId(1), "Sub", 5, Status.FAILED, b"d" * 16, failure=Failure("failed", "It raised.")),
        UnitRow(InstanceId(1), "Sub", 6, Status.COMPLETE, b"d" * 16, result=blob),
        UnitRow(InstanceId(1), "Sub", 7, Status.RUNNING, b"d" * 16),
    ]
    failures = {1: Failure("failed", "It raised.")}
    assert Results([4, 5, 6], [b"\x05", b"", b""], failures, {2: blob}) == stored_results(rows)
