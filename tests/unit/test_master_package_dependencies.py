# SPDX-License-Identifier: MIT
"""Packages that depend on packages: what they are described with, and what stands in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.errors import NotFound
from pydra.model.ids import PackageName
from pydra.model.package import NO_NEEDS, Needs, PackageDescription
from tests.support.libraries import LibraryBench
from tests.support.pumps import result_of

BASE, TOP = PackageName("base"), PackageName("top")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[LibraryBench]:
    """``top`` depends on ``base``; nothing was looked at."""
    bench = LibraryBench(tmp_path)
    bench.write("base")
    bench.write("top")
    bench.write("top", "Depends = base\n", "META")
    yield bench
    bench.close()


def look(bench: LibraryBench, *described: PackageName) -> None:
    """One look, in which exactly these are described, in this order."""
    before = len(bench.workers.taken)
    looked = bench.look()
    for number, package in enumerate(described):
        assert package == bench.workers.taken[before + number].package
        bench.describe("tasks.One")
    assert before + len(described) == len(bench.workers.taken)
    result_of(looked)


def current(bench: LibraryBench, package: PackageName) -> PackageDescription:
    """How it is listed."""
    return next(each for each in bench.library.packages() if each.package == package)


def test_a_dependency_is_there_when_a_package_is_described(bench: LibraryBench) -> None:
    """With its version, which the description keeps; the store, too."""
    look(bench, BASE, TOP)
    needs = Needs(((BASE, current(bench, BASE).version),))
    assert needs == bench.workers.last.needs
    assert (NO_NEEDS, needs) == (current(bench, BASE).needs, current(bench, TOP).needs)
    assert current(bench, TOP) == result_of_package(bench, TOP)


def result_of_package(bench: LibraryBench, package: PackageName) -> PackageDescription | None:
    """What the store knows of the current version."""
    return bench.result(bench.store.package(package, current(bench, package).version))


def test_a_changed_dependency_makes_a_new_description(bench: LibraryBench) -> None:
    """Of what depends on it, though its own files are the same; the version is the same as well."""
    look(bench, BASE, TOP)
    version = current(bench, TOP).version
    bench.write("base", "x = 2\n")
    look(bench, BASE, TOP)
    assert ((BASE, current(bench, BASE).version),) == current(bench, TOP).needs.dependencies
    assert version == current(bench, TOP).version
    look(bench)


def test_nothing_is_described_anew_after_a_restart(bench: LibraryBench) -> None:
    """The store knows each version with what it needs."""
    look(bench, BASE, TOP)
    bench.new_library()
    look(bench)
    assert ["base.tasks.One", "top.tasks.One"] == bench.keys()


def test_a_missing_dependency(bench: LibraryBench) -> None:
    """The package is listed with the reason, and so is who asks for a task; it comes back with it."""
    look(bench, BASE, TOP)
    (bench.tasks_dir / "base" / "tasks.py").rename(bench.tasks_dir / "kept.py")
    (bench.tasks_dir / "base").rmdir()
    look(bench)
    assert () == current(bench, TOP).tasks
    with pytest.raises(NotFound, match="META: top depends on base, and there is no package base"):
        bench.library.find("top.tasks.One")
    bench.write("base", "x = 3\n")
    look(bench, BASE, TOP)
    assert "top.tasks.One" == bench.library.find("top.tasks.One")[1].key


def test_a_cycle(bench: LibraryBench) -> None:
    """No package of it, and none that depends on one, has tasks; the others have theirs."""
    bench.write("base", "Dependency: top\n", "META")
    bench.write("above", "Dependency: top\n", "META")
    bench.write("other")
    look(bench, PackageName("other"))
    for package in ("above", "base", "top"):
        with pytest.raises(NotFound, match=r"Packages depend on each other: .* depends on top"):
            bench.library.find(f"{package}.tasks.One")
    assert ["other.tasks.One"] == bench.keys()


def test_a_refused_dependency(bench: LibraryBench) -> None:
    """The reason why it is refused is told by what depends on it."""
    os.symlink("tasks.py", bench.tasks_dir / "base" / "link.py")
    look(bench)
    with pytest.raises(NotFound, match=r"base cannot be used: .* is a symbolic link"):
        bench.library.find("top.tasks.One")


def test_a_dependency_that_is_refused_later_stays_as_it_was(bench: LibraryBench) -> None:
    """What depends on it goes on with the version that was good."""
    look(bench, BASE, TOP)
    os.symlink("tasks.py", bench.tasks_dir / "base" / "link.py")
    bench.write("top", "y = 2\n")
    look(bench, TOP)
    assert ["base.tasks.One", "top.tasks.One"] == bench.keys()


def test_what_is_wrong_with_meta_is_listed(bench: LibraryBench) -> None:
    """And keeps no task away."""
    bench.write("base", "nonsense\n", "META")
    look(bench, BASE, TOP)
    [error] = current(bench, BASE).errors
    assert ("META", "META: this is no map of keys to values.") == (error.file, error.message)
    assert ["base.tasks.One", "top.tasks.One"] == bench.keys()
