# SPDX-License-Identifier: MIT
"""What a worker of a node asks for, and what the master is told of that."""

from __future__ import annotations

from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import FAILED, ToMaster, UnitFinished, UnitResults, UnitsAsked
from pydra.model.ids import Attempt
from pydra.model.instance import Failure
from tests.support.workers import ScriptedWorker

MAIN = Attempt(1, 1)


def digests(*indexes: int) -> bytes:
    """One for each."""
    return b"".join(index.to_bytes(16, "big") for index in indexes)


def ask(worker: ScriptedWorker, *indexes: int, branch: str = "Sub", size: int = 1) -> None:
    """A worker asks for units."""
    args = [bytes([index % 128]) * size for index in indexes]
    worker.says(frames.ASK, branch, list(indexes), args, digests(*indexes), 0.0)


def asked(*indexes: int, branch: str = "Sub", asker: Attempt = MAIN) -> UnitsAsked:
    """What the master is told of that."""
    args = [bytes([index % 128]) for index in indexes]
    return UnitsAsked(asker, branch, list(indexes), args, digests(*indexes))


def answer(*indexes: int, branch: str = "Sub", asker: Attempt = MAIN) -> UnitResults:
    """Results of units."""
    return UnitResults(asker, branch, list(indexes), [b"r%d" % index for index in indexes])


def given(worker: ScriptedWorker) -> list[object]:
    """The indexes of all results that a worker was sent."""
    found: list[object] = []
    for frame in worker.sent:
        if frame[0] == frames.RESULTS:
            assert isinstance(frame[2], list)
            found += frame[2]
    return found


def failure_of(messages: list[ToMaster]) -> Failure:
    """Why attempt 1.1 failed."""
    *_, message = messages
    assert isinstance(message, UnitFinished)
    assert FAILED == message.outcome
    assert message.failure is not None
    return message.failure
