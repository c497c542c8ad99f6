# SPDX-License-Identifier: MIT
"""How many units are recorded."""

from __future__ import annotations

from pydra.cluster.master.units.tally import UnitTally
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
    tally.has_failed("Sub", 4)
    tally.recorded("Sub", [4], ())
    assert (12, 1) == (tally.complete, tally.failed)
