# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from pydra.cluster.scheduler.inputs import Outcome
from pydra.cluster.scheduler.lifecycle import HAPPENINGS, TRANSITIONS, Happening, status_after
from pydra.errors import InternalError
from pydra.model.status import Status

S, H = Status, Happening

# Written out once more, by happening, so that a slip in the table does not go unseen.
EXPECTED = {
    (S.UNKNOWN, H.SUBMITTED): S.QUEUED,
    (S.QUEUED, H.DISPATCHED): S.RUNNING,
    (S.RUNNING, H.COMPLETED): S.COMPLETE,
    (S.CANCELLING, H.COMPLETED): S.CANCELLED,
    (S.RUNNING, H.FAILED): S.FAILED,
    (S.CANCELLING, H.FAILED): S.CANCELLED,
    (S.RUNNING, H.STOPPED): S.CANCELLED,
    (S.CANCELLING, H.STOPPED): S.CANCELLED,
    (S.RUNNING, H.LOST): S.QUEUED,
    (S.RUNNING, H.RETRIED): S.QUEUED,
    (S.CANCELLING, H.LOST): S.CANCELLED,
    (S.RUNNING, H.LOST_TOO_OFTEN): S.FAILED,
    (S.CANCELLING, H.LOST_TOO_OFTEN): S.CANCELLED,
    (S.UNKNOWN, H.CANCEL_REQUESTED): S.UNKNOWN,
    (S.QUEUED, H.CANCEL_REQUESTED): S.CANCELLED,
    (S.RUNNING, H.CANCEL_REQUESTED): S.CANCELLING,
    (S.CANCELLING, H.CANCEL_REQUESTED): S.CANCELLING,
    (S.CANCELLING, H.TERMINATED): S.FAILED,
    (S.CANCELLED, H.CANCEL_REQUESTED): S.CANCELLED,
    (S.FAILED, H.CANCEL_REQUESTED): S.FAILED,
    (S.COMPLETE, H.CANCEL_REQUESTED): S.COMPLETE,
    (S.QUEUED, H.PAUSED): S.PAUSED,
    (S.RUNNING, H.PAUSED): S.PAUSED,
    (S.PAUSED, H.RESUMED): S.RUNNING,
    (S.PAUSED, H.COMPLETED): S.COMPLETE,
    (S.PAUSED, H.FAILED): S.FAILED,
    (S.PAUSED, H.STOPPED): S.CANCELLED,
    (S.PAUSED, H.LOST): S.QUEUED,
    (S.PAUSED, H.RETRIED): S.QUEUED,
    (S.PAUSED, H.LOST_TOO_OFTEN): S.FAILED,
    (S.PAUSED, H.CANCEL_REQUESTED): S.CANCELLING,
}


@pytest.mark.parametrize("happening", Happening)
@pytest.mark.parametrize("status", Status)
def test_every_pair_is_in_the_table_or_raises(status: Status, happening: Happening) -> None:
    """A status and a happening lead to the expected status, or cannot meet."""
    expected = EXPECTED.get((status, happening))
    if expected is not None:
        assert expected is status_after(status, happening)
        return
    with pytest.raises(InternalError, match=f"{status.name} {happening}"):
        status_after(status, happening)


def test_no_status_is_forgotten() -> None:
    """The table has a row for each status."""
    assert set(Status) == set(TRANSITIONS)


def test_final_is_final() -> None:
    """Nothing leads out of a final status."""
    for status, row in TRANSITIONS.items():
        if status.is_final:
            assert {status} == set(row.values())


def test_cancel_has_no_result() -> None:
    """A cancelling instance ends cancelled, or failed if it was terminated, and never complete."""
    assert {S.CANCELLING, S.CANCELLED, S.FAILED} == set(TRANSITIONS[S.CANCELLING].values())
    assert [H.TERMINATED] == [
        happening for happening, after in TRANSITIONS[S.CANCELLING].items() if after is S.FAILED
    ]


def test_every_outcome_happens() -> None:
    """Each outcome that a node can tell means something, also as the plain word of the wire."""
    assert set(Outcome) == set(HAPPENINGS)
    assert [H.COMPLETED, H.FAILED, H.STOPPED, H.LOST] == [
        HAPPENINGS[Outcome(word)] for word in ("complete", "failed", "stopped", "lost")
    ]
