# SPDX-License-Identifier: MIT
"""Packages that depend on packages: what they are described with, and what stands in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.packages.environment import environment_key
from pydra.config import Settings
from pydra.errors import LoadError, NotFound
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
    """One look, in which exactly these are begun to be described in this order, and end in it."""
    before = len(bench.workers.taken)
    looked = bench.look()
    for number, package in enumerate(described):
        assert package == bench.workers.taken[before + number].package
        bench.describe("tasks.One", worker=bench.workers.taken[before + number])
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


def requiring(bench: LibraryBench, text: str = "requirements = six==1.17\n") -> None:
    """``base`` says this in META."""
    bench.write("base", text, "META")


def test_requirements_are_off_unless_allowed(bench: LibraryBench) -> None:
    """Neither the package nor what depends on it can be used, and whoever asks is told why."""
    requiring(bench)
    look(bench)
    for package in ("base", "top"):
        with pytest.raises(NotFound, match=r"META: It needs six==1\.17, .*ALLOW_REQUIREMENTS"):
            bench.library.find(f"{package}.tasks.One")
    assert 2 == len(bench.events)
    look(bench)


@pytest.fixture
def allowed(bench: LibraryBench) -> LibraryBench:
    """Requirements are allowed, and those of all are installed when that is let through."""
    bench.settings = Settings(ALLOW_REQUIREMENTS=True, REQUIREMENTS_WHEELS=str(bench.directory))
    bench.new_library()
    return bench


def install(bench: LibraryBench, *requirements: str) -> None:
    """These are there."""
    (bench.repository.root / ".site" / environment_key(requirements)).mkdir(parents=True)


def test_requirements_of_dependencies_are_needed_too(allowed: LibraryBench) -> None:
    """All of them together are one environment, for describing as for running."""
    requiring(allowed)
    allowed.write("top", "depends: [base]\nrequirements: [attrs==26.1, six==1.17]\n", "META")
    install(allowed, "six==1.17")
    install(allowed, "attrs==26.1", "six==1.17")
    look(allowed, BASE, TOP)
    assert ("six==1.17",) == current(allowed, BASE).needs.requirements
    assert ("attrs==26.1", "six==1.17") == current(allowed, TOP).needs.requirements
    assert current(allowed, TOP).needs == allowed.workers.last.needs


def test_the_old_version_stays_while_requirements_are_installed(
    allowed: LibraryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other packages do not wait for it; if pip fails, the new version says so instead."""
    look(allowed, BASE, TOP)
    installed: Deferred[None] = Deferred()
    monkeypatch.setattr(allowed.library._environments, "_install_in_thread", lambda *_: installed)
    requiring(allowed)
    allowed.write("other")
    look(allowed, PackageName("other"))
    assert ["base.tasks.One", "other.tasks.One", "top.tasks.One"] == allowed.keys()
    installed.errback(LoadError("pip cannot install six==1.17: there is none."))
    look(allowed)
    with pytest.raises(NotFound, match="there is none"):
        allowed.library.find("base.tasks.One")
    assert ["other.tasks.One"] == allowed.keys()
