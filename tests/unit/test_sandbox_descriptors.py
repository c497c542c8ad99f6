# SPDX-License-Identifier: MIT
"""What the reactor tells of a descriptor, and what is made of it."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pydra.cluster.sandbox.descriptors import Descriptor


class Watched:
    """A descriptor that keeps which of its functions were called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.descriptor = Descriptor(
            Clock(),
            0,
            lambda: self.called.append("readable"),
            lambda: self.called.append("writable"),
            lambda: self.called.append("broken"),
        )


@pytest.mark.parametrize("reason", [ConnectionLost(), ConnectionDone()])
def test_a_hang_up_is_read(reason: Exception) -> None:
    """The other end closing, as when a process calls ``os._exit``, is an end of file and no fault of ours."""
    watched = Watched()
    watched.descriptor.connectionLost(Failure(reason))
    assert ["readable"] == watched.called


def test_a_function_that_raised_is_told() -> None:
    """What one of the functions raised, the reactor hands back: then it is broken."""
    watched = Watched()
    watched.descriptor.connectionLost(Failure(ValueError("ours")))
    assert ["broken"] == watched.called
