# SPDX-License-Identifier: MIT
"""A store of either kind in a test that has no running reactor."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from pydra.cluster.interfaces import Store
from pydra.model.changes import Change, Committed
from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from tests.support.threads import PumpedReactor

T = TypeVar("T")

ONE = InstanceId(1)


class Bench:
    """A store, and how to wait for it."""

    def __init__(self, store: Store, reactor: PumpedReactor) -> None:
        self.store = store
        self._reactor = reactor

    def result(self, awaited: Coroutine[Any, Any, T]) -> T:
        """What the store answers."""
        return self._reactor.wait(awaited)

    def commit(self, *changes: Change) -> list[Committed]:
        """The outcomes of one commit."""
        return self.result(self.store.commit(changes))

    def one(self) -> Instance:
        """Instance 1."""
        instance = self.result(self.store.instance(ONE))
        assert instance is not None
        return instance
