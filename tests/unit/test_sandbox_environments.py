# SPDX-License-Identifier: MIT
"""When requirements are installed, by whom that is waited for, and how often it is tried."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.packages.environment import environment_key
from pydra.cluster.sandbox.environments import FAILURE_S, Environments
from pydra.config import Settings
from pydra.errors import LoadError, PydraError, StoreError
from tests.support.cables import unthreaded
from tests.support.pumps import result_of

SIX = ("six==1.17",)
ALLOWED = Settings(ALLOW_REQUIREMENTS=True, REQUIREMENTS_WHEELS="/wheels")


class Directory:
    """Environments in memory; installing waits while it is held, and fails with a fault."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.installed: list[Sequence[str]] = []
        self.shrunk: list[set[str]] = []
        self.fault: PydraError | None = None
        self.held: Deferred[None] | None = None

    def use(self, key: str) -> bool:
        """Whether it is here."""
        return key in self.here

    def install(self, requirements: Sequence[str]) -> None:
        """Note it."""
        self.installed.append(requirements)
        if self.fault is not None:
            raise self.fault
        self.here.add(environment_key(requirements))

    def shrink(self, limit: int, needed: Collection[str]) -> None:
        """Note what must stay."""
        self.shrunk.append(set(needed))


class Bench:
    """Environments over a directory in memory."""

    def __init__(self, settings: Settings = ALLOWED) -> None:
        self.clock = Clock()
        self.directory = Directory()
        self.environments = Environments(self.clock, settings, Path("/x"), unthreaded, self.in_pip_thread)
        self.environments._directory = self.directory  # type: ignore[assignment]

    async def in_pip_thread(self, function: Any, *arguments: Any) -> Any:
        """Wait while it is held."""
        if self.directory.held is not None:
            await self.directory.held
        return function(*arguments)

    def ready(self, requirements: Sequence[str] = SIX) -> bool:
        """Whether it is ready now."""
        return result_of(Deferred.fromCoroutine(self.environments.is_ready(requirements, lambda: {"used"})))

    def ensure(self, requirements: Sequence[str] = SIX) -> Deferred[None]:
        """Somebody waits for it."""
        return Deferred.fromCoroutine(self.environments.ensure(requirements, lambda: {"used"}))


def test_nothing_is_always_ready() -> None:
    """Also where nothing is allowed."""
    bench = Bench(Settings())
    assert bench.ready(())
    assert result_of(bench.ensure(())) is None


def test_off_unless_allowed() -> None:
    """And then it is told what is needed, and which setting stands in the way."""
    bench = Bench(Settings())
    for asked in (bench.environments.is_ready(SIX, set), bench.environments.ensure(SIX, set)):
        with pytest.raises(LoadError, match=r"It needs six==1\.17, .*ALLOW_REQUIREMENTS"):
            result_of(Deferred.fromCoroutine(asked))
    assert [] == bench.directory.installed


def test_waiting_for_an_installation() -> None:
    """It is made once; then room is made, for which it and what is used stay."""
    bench = Bench()
    result_of(bench.ensure())
    result_of(bench.ensure())
    assert [SIX] == bench.directory.installed
    assert [{"used", environment_key(SIX)}] == bench.directory.shrunk


def test_not_waiting_for_an_installation() -> None:
    """It is begun once, and a later question is answered yes."""
    bench = Bench()
    bench.directory.held = Deferred()
    assert [False, False] == [bench.ready(), bench.ready()]
    bench.directory.held.callback(None)
    assert bench.ready()
    assert [SIX] == bench.directory.installed


@pytest.mark.parametrize("waiting", [False, True])
def test_a_failure_is_remembered_for_a_while(waiting: bool) -> None:
    """It is told at once, and tried again after a minute."""
    bench = Bench()
    bench.directory.fault = LoadError("pip cannot install it.")
    if waiting:
        with pytest.raises(LoadError):
            result_of(bench.ensure())
    else:
        assert not bench.ready()
    bench.clock.advance(FAILURE_S - 1)
    for _ in range(3):
        with pytest.raises(LoadError, match="pip cannot install it"):
            bench.ready()
    assert 1 == len(bench.directory.installed)
    bench.clock.advance(1)
    bench.directory.fault = None
    assert not bench.ready()
    assert bench.ready()


def test_whoever_waited_for_a_failure_is_told_it() -> None:
    """What failed for the first is not tried again for those behind it."""
    bench = Bench()
    bench.directory.fault = LoadError("pip cannot install it.")
    held = bench.directory.held = Deferred()
    waiting = [bench.ensure() for _ in range(3)]
    held.callback(None)
    for each in waiting:
        with pytest.raises(LoadError, match="pip cannot install it"):
            result_of(each)
    assert 1 == len(bench.directory.installed)


def test_a_full_disk_is_no_fault_of_the_requirements() -> None:
    """It is told as what it is, and the next one tries again."""
    bench = Bench()
    bench.directory.fault = StoreError("The requirements cannot be kept here: No space left on device.")
    for _ in range(2):
        with pytest.raises(StoreError):
            result_of(bench.ensure())
    assert 2 == len(bench.directory.installed)
