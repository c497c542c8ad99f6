# SPDX-License-Identifier: MIT
"""Directories of sandboxes, packages put into them, and uids lent to them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pydra.cluster.sandbox.launcher.filling import FILES_LIMIT, SITE, FillFault, Source, fill
from pydra.cluster.sandbox.launcher.scratch import Scratch, open_directory, remove_tree
from pydra.cluster.sandbox.launcher.slots import NoSlot, SlotLeases

VERSION = "ab" * 32


def remove(path: Path) -> int:
    """Remove a tree; the number of steps."""
    parent = open_directory(str(path.parent))
    try:
        return sum(1 for _ in remove_tree(parent, path.name))
    finally:
        os.close(parent)


def test_removes_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    """A task cannot keep its scratch by nesting directories beyond what a path can name."""
    top = tmp_path / "top"
    top.mkdir()
    below = open_directory(str(top))
    for _ in range(1500):
        os.mkdir("d" * 20, dir_fd=below)
        next_below = open_directory("d" * 20, below)
        os.close(below)
        below = next_below
    os.close(below)
    remove(top)
    assert not top.exists()


def test_removes_what_its_owner_locked(tmp_path: Path) -> None:
    """Directories without any permission are removed like others."""
    locked = tmp_path / "top" / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    locked.chmod(0)
    locked.parent.chmod(0)
    remove(tmp_path / "top")
    assert [] == list(tmp_path.iterdir())


def test_follows_no_link(tmp_path: Path) -> None:
    """A link in a scratch, or in the place of one, is removed itself."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    (top / "link").symlink_to(kept)
    (top / "below" / "link").symlink_to(kept)
    remove(top)
    (tmp_path / "other").symlink_to(kept)
    remove(tmp_path / "other")
    assert [kept] == list(tmp_path.iterdir())
    assert (kept / "file").exists()


def test_large_trees_take_several_steps(tmp_path: Path) -> None:
    """The launcher can look at its socket in between."""
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    for number in range(300):
        (top / "below" / str(number)).touch()
    assert 4 == remove(top)


def test_removing_nothing_is_no_fault(tmp_path: Path) -> None:
    """What is gone already needs no removing."""
    assert 0 == remove(tmp_path / "missing")


def test_scratch_of_dead_launchers_is_removed(tmp_path: Path) -> None:
    """A launcher that starts removes what nobody holds, and nothing else."""
    living = Scratch(str(tmp_path), str(tmp_path), shared=False)
    (tmp_path / "dead" / "1" / "work").mkdir(parents=True)
    for _ in living.remove_leftovers():
        pass
    starting = Scratch(str(tmp_path), str(tmp_path), shared=False)
    for _ in starting.remove_leftovers():
        pass
    assert {living.path, starting.path} == {str(path) for path in tmp_path.iterdir()}
    starting.close()
    living.close()
    assert [] == list(tmp_path.iterdir())


def test_scratch_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """The launcher works in no directory that another uid could change."""
    link = tmp_path / "link"
    link.symlink_to("/")
    with pytest.raises(OSError, match="link"):
        Scratch(str(link), str(link), shared=False)


class Filling:
    """A cache with one package, and where it goes."""

    def __init__(self, directory: Path) -> None:
        self.package = directory / "cache" / "demo" / VERSION
        (self.package / "deep").mkdir(parents=True)
        (self.package / "__init__.py").write_text("x = 1\n")
        (self.package / "deep" / "data").write_bytes(b"y")
        self.target = directory / "packages"
        self.target.mkdir()
        self.cache = directory / "cache"

    def fill(self, version: str = VERSION, owner: int | None = None, *, linked: bool = True) -> int:
        """Fill; the number of steps."""
        cache, target = open_directory(str(self.cache)), open_directory(str(self.target))
        try:
            source = Source(cache, os.geteuid() if owner is None else owner, linked)
            return sum(1 for _ in fill(source, "demo", version, target))
        finally:
            os.close(cache)
            os.close(target)


@pytest.fixture
def filling(tmp_path: Path) -> Filling:
    """A cache with one package."""
    return Filling(tmp_path)


def test_a_package_is_filled_by_hard_links(filling: Filling) -> None:
    """Files are not copied."""
    filling.fill()
    original, put = filling.package / "deep" / "data", filling.target / "demo" / "deep" / "data"
    assert original.stat().st_ino == put.stat().st_ino
    assert ["demo"] == os.listdir(filling.target)


def test_copies_where_no_mount_protects_the_cache(filling: Filling) -> None:
    """A worker without a sandbox gets files of its own."""
    filling.fill(linked=False)
    (filling.target / "demo" / "__init__.py").write_text("changed")
    assert "x = 1\n" == (filling.package / "__init__.py").read_text()


def test_a_version_that_is_not_there_is_told(filling: Filling) -> None:
    """The fault names package and version."""
    with pytest.raises(FillFault, match="demo"):
        filling.fill("cd" * 32)


@pytest.mark.parametrize(
    "place", ["demo", f"demo/{VERSION}", f"demo/{VERSION}/deep", f"demo/{VERSION}/__init__.py"]
)
def test_links_in_the_cache_are_refused(filling: Filling, tmp_path: Path, place: str) -> None:
    """A daemon cannot lead the launcher to files outside of the cache."""
    (filling.cache / place).rename(tmp_path / "moved")
    (filling.cache / place).symlink_to(tmp_path / "moved")
    with pytest.raises(FillFault):
        filling.fill()
    assert not (filling.target / "demo").exists()


def test_files_of_others_are_refused(filling: Filling) -> None:
    """Only what the daemon itself wrote is given to workers."""
    with pytest.raises(FillFault, match="another user"):
        filling.fill(owner=os.geteuid() + 1)


def test_pipes_are_refused(filling: Filling) -> None:
    """A FIFO does not stop the launcher."""
    os.mkfifo(filling.package / "pipe")
    with pytest.raises(FillFault, match="neither"):
        filling.fill()


def test_installed_requirements_may_be_larger(filling: Filling) -> None:
    """They are filled like a package, beside the packages."""
    (filling.cache / ".site").mkdir()
    (filling.cache / "demo" / VERSION).rename(filling.cache / ".site" / VERSION)
    for number in range(FILES_LIMIT):
        (filling.cache / ".site" / VERSION / f"n{number}").touch()
    source = Source(os.open(filling.cache, os.O_RDONLY), os.geteuid(), True)
    target = os.open(filling.target, os.O_RDONLY)
    try:
        for _ in fill(source, SITE, VERSION, target):
            pass
    finally:
        os.close(source.cache)
        os.close(target)
    assert [SITE] == os.listdir(filling.target)
    assert FILES_LIMIT < len(os.listdir(filling.target / SITE))


def test_too_many_files_are_refused(filling: Filling) -> None:
    """A package has an end; and a large one takes several steps."""
    for number in range(200):
        (filling.package / f"n{number}").touch()
    assert 3 == filling.fill()
    assert 10_000 == FILES_LIMIT


def test_uids_are_never_shared(tmp_path: Path) -> None:
    """Two launchers on one machine hold different uids, and a range has an end."""
    first = SlotLeases(str(tmp_path), 100_000_001, 100_000_003)
    second = SlotLeases(str(tmp_path), 100_000_001, 100_000_003)
    uids = [first.lease(), second.lease(), first.lease()]
    assert [100_000_001, 100_000_002, 100_000_003] == uids
    with pytest.raises(NoSlot):
        second.lease()
    first.release(100_000_003)
    with pytest.raises(NoSlot):
        second.lease()
    assert 100_000_003 == first.lease()
    first.close()
    assert 100_000_001 == second.lease()
    second.close()


def test_uids_that_still_have_processes_are_passed_over(tmp_path: Path) -> None:
    """The lock of a killed launcher is free before its sandboxes are gone."""
    processes = tmp_path / "proc"
    (processes / "17").mkdir(parents=True)
    own = os.geteuid()
    leases = SlotLeases(str(tmp_path), own, own + 1, str(processes))
    assert own + 1 == leases.lease()
    leases.close()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """No link leads the launcher to open another file."""
    (tmp_path / "100000001").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="100000001"):
        SlotLeases(str(tmp_path), 100_000_001, 100_000_001).lease()
    assert not (tmp_path / "elsewhere").exists()


def test_a_slot_lock_is_exclusive(tmp_path: Path) -> None:
    """Somebody else's lock on a uid counts."""
    with open(tmp_path / "100000001", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NoSlot):
            SlotLeases(str(tmp_path), 100_000_001, 100_000_001).lease()
