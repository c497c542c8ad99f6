# SPDX-License-Identifier: MIT
"""The stores that the contract of stores is tested with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.store.store import DjangoStore
from tests.support.fakes import MemoryStore
from tests.support.stores import Bench
from tests.support.threads import PumpedReactor


@pytest.fixture(params=["memory", "django"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """An empty store of each kind."""
    reactor = PumpedReactor()
    if request.param == "memory":
        yield Bench(MemoryStore(), reactor)
        return
    store = reactor.wait(DjangoStore.open(tmp_path / "store.sqlite3", reactor, pytest.fail))
    yield Bench(store, reactor)
    reactor.wait(store.close())
