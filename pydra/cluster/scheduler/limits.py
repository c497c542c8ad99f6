# SPDX-License-Identifier: MIT
"""How long the scheduler waits, and how often it tries."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Durations in seconds, and two numbers."""

    suspect_s: float = 15.0
    """A node that was not heard of for so long gets no new work until it is."""
    lease_s: float = 60.0
    """An attempt that its node did not name for so long is lost."""
    exclusive_s: float = 45.0
    """The same for an exclusive one, whether longer or shorter: by then its node has ended it for sure."""
    stop_grace_s: float = 10.0
    """From the stop flag to the kill, and from one kill to the next."""
    loss_limit: int = 3
    """An instance that lost so many attempts has failed; so has a unit."""
    backfill: int = 64
    """Different amounts of the same resources for which a place is looked for: of the first that wait."""
    hold_s: float = 2.0
    """A hired worker that had nothing to do for so long is released."""
    linger_s: float = 2.0
    """Results of a worker that is gone are still waited for, until none came for so long."""
    return_s: float = 10.0
    """After a restart, units wait so long for nodes that may hold some of them."""


SHORTEST_REPEAT_S = 1.0
"""Kills are not repeated faster than this, even without a grace."""
