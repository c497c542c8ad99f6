# SPDX-License-Identifier: MIT
"""Outcomes that the master has not acknowledged yet."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from pydra.cluster.wire.messages import UnitFinished
from pydra.model.ids import Attempt


@attrs.frozen
class Outcome:
    """How an attempt ended; ``blob`` are the bytes of a result that is too large to travel inline."""

    message: UnitFinished
    blob: bytes | None = None


class Outbox:
    """Keeps each outcome until it is recorded, so that none is lost while the master is away."""

    def __init__(self) -> None:
        self._outcomes: dict[Attempt, Outcome] = {}

    def keep(self, outcome: Outcome) -> None:
        """Hold an outcome; the first one of an attempt stays."""
        self._outcomes.setdefault(outcome.message.attempt, outcome)

    def forget(self, attempt: Attempt) -> None:
        """The master has recorded it, or does not want it."""
        self._outcomes.pop(attempt, None)

    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts whose outcome is held, in the order of their ends."""
        return tuple(self._outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(list(self._outcomes.values()))

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self._outcomes
