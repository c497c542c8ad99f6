# SPDX-License-Identifier: MIT
"""Old package versions are removed once nothing needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from pydra.cluster.master.packages.old_versions import PAUSE_S, OldVersions
from pydra.cluster.packages.repository import Repository
from pydra.model.ids import InstanceId, PackageName, PackageVersion
from pydra.model.instance import Instance
from pydra.model.package import Needs, PackageDescription
from tests.support.cables import unthreaded
from tests.support.instances import queued_instance

DEMO = PackageName("demo")


class Bench:
    """Four versions of a package, the oldest first; two are kept, and the last is the current one."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.repository = Repository(directory / "kept")
        self.versions: list[PackageVersion] = []
        (directory / "demo").mkdir()
        for number in range(4):
            (directory / "demo" / "tasks.py").write_text(f"x = {number}\n")
            version = self.repository.add(directory / "demo")
            os.utime(self.repository.path(DEMO, version), (number, number))
            self.versions.append(version)
        self.live: dict[InstanceId, Instance] = {}
        self.current = [PackageDescription(DEMO, self.versions[3], ())]
        self.old_versions = OldVersions(self.clock, self.repository, unthreaded, self, self.live, keep=2)
        self.old_versions.start()

    def packages(self) -> list[PackageDescription]:
        """The current versions."""
        return self.current

    def looks(self, times: int = 2) -> list[int]:
        """So many looks; the versions that are left then, by number."""
        for _ in range(times):
            self.clock.advance(PAUSE_S)
        return [number for number, version in enumerate(self.versions) if self.repository.has(DEMO, version)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Four versions; no timer may be left."""
    bench = Bench(tmp_path)
    yield bench
    bench.old_versions.stop()
    assert [] == bench.clock.getDelayedCalls()


def test_all_but_the_newest_go(bench: Bench) -> None:
    """After they were found unused twice."""
    assert [0, 1, 2, 3] == bench.looks(1)
    assert [2, 3] == bench.looks(1)
    assert [2, 3] == bench.looks(3)


def test_what_an_instance_needs_stays(bench: Bench) -> None:
    """As its own version, or as a dependency's; it goes after the instance."""
    own = queued_instance(1, package=DEMO, version=bench.versions[0])
    other = queued_instance(2, package="top", needs=Needs(((DEMO, bench.versions[1]),)))
    bench.live.update({own.id: own, other.id: other})
    assert [0, 1, 2, 3] == bench.looks(3)
    del bench.live[own.id]
    assert [1, 2, 3] == bench.looks()
    bench.live.clear()
    assert [2, 3] == bench.looks()


def test_what_is_needed_between_two_looks_stays(bench: Bench) -> None:
    """An instance that was being accepted at the first."""
    bench.looks(1)
    bench.live[InstanceId(1)] = queued_instance(1, package=DEMO, version=bench.versions[0])
    assert [0, 2, 3] == bench.looks(1)


def test_what_is_current_stays(bench: Bench) -> None:
    """However old it is, and as a dependency too."""
    needs = Needs(((DEMO, bench.versions[1]),))
    bench.current = [
        PackageDescription(DEMO, bench.versions[0], ()),
        PackageDescription(PackageName("top"), bench.versions[3], (), needs=needs),
    ]
    assert [0, 1, 2, 3] == bench.looks(3)


def test_a_fault_of_the_disk_is_no_end(bench: Bench) -> None:
    """It is logged, and the next look comes."""
    older = bench.repository.older

    def broken(keep: int) -> set[tuple[PackageName, PackageVersion]]:
        raise OSError(5, "Input/output error")

    bench.repository.older = broken  # type: ignore[method-assign]
    bench.looks(1)
    bench.repository.older = older  # type: ignore[method-assign]
    assert [2, 3] == bench.looks()
