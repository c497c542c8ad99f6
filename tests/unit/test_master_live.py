# SPDX-License-Identifier: MIT
"""How many instances are in which status."""

from __future__ import annotations

import pytest

from pydra.cluster.master.live import LiveInstances
from pydra.model.ids import InstanceId
from pydra.model.status import Status
from tests.support.instances import queued_instance

ONE, TWO = InstanceId(1), InstanceId(2)


def test_statuses_are_counted() -> None:
    """Each instance counts once, as what it is now, and no more when it is gone."""
    live = LiveInstances()
    live[ONE] = queued_instance(1)
    live[TWO] = queued_instance(2)
    live[ONE] = queued_instance(1, status=Status.RUNNING)
    assert {Status.QUEUED: 1, Status.RUNNING: 1} == dict(live.statuses)
    del live[TWO]
    with pytest.raises(KeyError):
        del live[TWO]
    assert (0, 1, 1) == (live.statuses[Status.QUEUED], live.statuses[Status.RUNNING], live.statuses.total())
    assert [ONE] == list(live)
