# SPDX-License-Identifier: MIT
"""
Units with a guarantee that may be alive somewhere, though they are in no batch.

An earlier master gave them out, and their node did not say yet what became of them; or their worker was told
to end, and did not say yet that it has.
"""

from __future__ import annotations

import attrs

from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.options import Guarantee


@attrs.define(eq=False)
class Stray:
    """Such a unit."""

    batch: Attempt
    attempt: Attempt
    """Of its worker."""
    node: NodeId
    instance: InstanceId
    branch: str
    index: int
    digest: bytes
    guarantee: Guarantee
    named: float
    """When the node last named the worker, or when it was lost sight of."""
    is_released: bool
    """Its worker was told to end."""
    is_stale: bool = False
    """Its unit was asked for with other arguments since, so what becomes of it is not recorded."""


class Strays:
    """All of them, by batch and by instance."""

    def __init__(self) -> None:
        self._batches: dict[Attempt, Stray] = {}
        self._instances: dict[InstanceId, dict[Attempt, Stray]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, stray: Stray) -> None:
        """It is there from now on."""
        self._batches[stray.batch] = stray
        self._instances.setdefault(stray.instance, {})[stray.batch] = stray

    def remove(self, stray: Stray) -> None:
        """It is known what became of it."""
        del self._batches[stray.batch]
        others = self._instances[stray.instance]
        del others[stray.batch]
        if not others:
            del self._instances[stray.instance]

    def get(self, batch: Attempt) -> Stray | None:
        """The one of this batch."""
        return self._batches.get(batch)

    def all(self) -> list[Stray]:
        """All of them, by batch."""
        return sorted(self._batches.values(), key=lambda stray: stray.batch)

    def of(self, instance: InstanceId) -> list[Stray]:
        """Those of an instance, by batch."""
        return sorted(self._instances.get(instance, {}).values(), key=lambda stray: stray.batch)

    def on(self, node: NodeId) -> list[Stray]:
        """Those of a node, by batch."""
        return [stray for stray in self.all() if stray.node == node] if self._batches else []
