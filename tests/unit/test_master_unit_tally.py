# SPDX-License-Identifier: MIT
"""How many units are recorded."""

from __future__ import annotations

from pydra.cluster.master.units.tally import FAILED_LIMIT, UnitTally
from pydra.model.unit import UnitCounts


def test_units_that_are_tried_again_count_once() -> None:
    """What failed and is complete later is complete; what fails again has failed once."""
    tally = UnitTally()
    assert (2, 1) == tally.recorded("Sub", [5, 6, 7], {1})
    assert (1, 0) == tally.recorded("Other", [6], ())
    assert (3, 1) == (tally.complete, tally.failed)
    assert (0, 1) == tally.recorded("Sub", [6], {0})
    assert (3, 1) == (tally.complete, tally.failed)
    assert (1, 0) == tally.recorded("Sub", [6], ())
    assert (4, 0) == (tally.complete, tally.failed)


def test_what_was_recorded_before() -> None:
    """Counts of the store come on top."""
    tally = UnitTally()
    tally.recorded("Sub", [1], ())
    tally.add(UnitCounts(complete=10, failed=2, queued=5))
    assert (11, 2) == (tally.complete, tally.failed)
    tally.has_failed("Sub", [4])
    tally.recorded("Sub", [4], ())
    assert (12, 1) == (tally.complete, tally.failed)


def test_only_so_many_that_failed_are_held() -> None:
    """Beyond, a unit that is complete later counts as both, and the tally says that this may be."""
    tally = UnitTally()
    tally.recorded("Sub", range(FAILED_LIMIT), range(FAILED_LIMIT))
    tally.recorded("Sub", [3], ())
    assert (1, FAILED_LIMIT - 1, True) == (tally.complete, tally.failed, tally.is_exact)
    tally.recorded("Other", [1, 2], {0, 1})
    tally.recorded("Other", [1, 2], ())
    assert (3, FAILED_LIMIT + 1, False) == (tally.complete, tally.failed, tally.is_exact)
    tally.recorded("Sub", [5], ())
    assert (4, FAILED_LIMIT) == (tally.complete, tally.failed)
