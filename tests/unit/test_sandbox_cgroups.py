# SPDX-License-Identifier: MIT
"""Control groups, on directories that look like them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pydra.cluster.sandbox.launcher import cgroups
from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds
from pydra.cluster.sandbox.launcher.cgroups import Group, Groups, Hierarchy

BOUNDS = Bounds(256 * MEBIBYTE, 64, 0.5, 1, 1)

OLD = {
    "memory": {
        "memory.limit_in_bytes": "0",
        "memory.memsw.limit_in_bytes": "0",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    },
    "pids": {"pids.max": "max", "pids.events": "max 0\n"},
    "cpu": {"cpu.shares": "1024", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
}
UNIFIED = {
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.events": "low 0\noom 0\noom_kill 0\n",
    "pids.max": "max",
    "pids.events": "max 0\n",
    "cpu.max": "max 100000",
    "cpu.weight": "100",
    "cgroup.kill": "",
}


def make(directory: Path, files: dict[str, str]) -> str:
    """A group with these files."""
    directory.mkdir()
    for name, content in {**files, "cgroup.procs": ""}.items():
        (directory / name).write_text(content)
    return str(directory)


@pytest.fixture
def old(tmp_path: Path) -> Group:
    """A group in three hierarchies of version 1."""
    return Group([Hierarchy(make(tmp_path / name, files), 1, (name,)) for name, files in OLD.items()])


@pytest.fixture
def unified(tmp_path: Path) -> Group:
    """A group in the unified hierarchy, with all controllers."""
    return Group([Hierarchy(make(tmp_path / "unified", UNIFIED), 2, cgroups.CONTROLLERS)])


def written(tmp_path: Path, *names: str) -> list[str]:
    """The contents of files."""
    return [(tmp_path / name).read_text() for name in names]


def test_limits_of_version_1(old: Group, tmp_path: Path) -> None:
    """Memory with swap, processes with our own two, a share and a quota."""
    old.limit(BOUNDS, 2)
    assert [str(256 * MEBIBYTE)] * 2 == written(
        tmp_path, "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes"
    )
    assert ["66", "512", "50000", "100000"] == written(
        tmp_path, "pids/pids.max", "cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"
    )


def test_limits_of_version_2(unified: Group, tmp_path: Path) -> None:
    """The same by its names; swap is none."""
    unified.limit(BOUNDS._replace(cpus=0.0), 1)
    top = tmp_path / "unified"
    assert str(256 * MEBIBYTE) == (top / "memory.max").read_text()
    assert "0" == (top / "memory.swap.max").read_text()
    assert "max 100000" == (top / "cpu.max").read_text()
    assert "100" == (top / "cpu.weight").read_text()


@pytest.mark.parametrize("kind", ["old", "unified"])
def test_what_was_reached_is_read(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Kills for memory and refused processes are counted by the kernel."""
    group: Group = request.getfixturevalue(kind)
    assert (False, False) == (group.out_of_memory(), group.out_of_processes())
    for path in tmp_path.rglob("*"):
        if path.name in ("memory.oom_control", "memory.events", "pids.events"):
            path.write_text(path.read_text().replace("oom_kill 0", "oom_kill 2").replace("max 0", "max 1"))
    assert (True, True) == (group.out_of_memory(), group.out_of_processes())


def test_a_group_without_controllers_limits_nothing(tmp_path: Path) -> None:
    """The unified hierarchy beside old ones is there for killing alone."""
    group = Group([Hierarchy(make(tmp_path / "unified", {"cgroup.kill": ""}), 2, ())])
    group.limit(BOUNDS, 1)
    group.kill()
    assert (False, False) == (group.limits_memory, group.limits_processes)
    assert "1" == (tmp_path / "unified/cgroup.kill").read_text()


def test_killing_needs_no_unified_hierarchy(old: Group) -> None:
    """Then others see to it."""
    old.kill()


def test_hierarchies_are_found(tmp_path: Path) -> None:
    """Those of use, by their kind and options, also where two controllers are together."""
    unified = tmp_path / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("cpuset pids\n")
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
        "cgroup /sys/fs/cgroup/devices cgroup rw,devices 0 0\n"
        f"cgroup2 {unified} cgroup2 rw 0 0\n"
    )
    assert [
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", 1, ("cpu",)),
        Hierarchy("/sys/fs/cgroup/memory", 1, ("memory",)),
        Hierarchy(str(unified), 2, ("pids",)),
    ] == cgroups.find_hierarchies(str(mounts))


def test_groups_are_made_and_removed(tmp_path: Path) -> None:
    """One for each sandbox, below the launcher's own, whose name no other process can have."""
    groups = Groups("a/b", [Hierarchy(str(tmp_path), 1, ("memory",))])
    assert frozenset({"memory"}) == groups.controllers
    group = groups.make(7)
    [own] = (tmp_path / "a/b").iterdir()
    assert own.name.startswith(f"{os.getpid()}-")
    assert (own / "7").is_dir()
    assert group.limits_memory
    assert group.remove()
    assert group.remove()
    groups.close()
    assert not (tmp_path / "a/b").exists()


def test_a_group_that_is_in_use_stays(tmp_path: Path) -> None:
    """Its removal can be tried again."""
    groups = Groups("a", [Hierarchy(str(tmp_path), 1, ("memory",))])
    group = groups.make(7)
    [busy] = (tmp_path / "a").glob("*/7")
    (busy / "process").touch()
    assert not group.remove()
    groups.close()
    assert busy.is_dir()


def test_leftovers_of_dead_launchers_are_removed(tmp_path: Path) -> None:
    """Empty groups of those that are gone; neither others, nor what is none of ours."""
    processes = tmp_path / "proc"
    for pid, started in ((1, "55"), (os.getpid(), "66")):
        (processes / str(pid)).mkdir(parents=True)
        (processes / str(pid) / "stat").write_text(f"{pid} (a) b) S {'0 ' * 18}{started} 0 0\n")
    above = tmp_path / "top/a"
    for name in ("1-55", "1-54", "99-1", "other", "7"):
        (above / name / "3").mkdir(parents=True)
    groups = Groups("a", [Hierarchy(str(tmp_path / "top"), 1, ("pids",))], str(processes))
    groups.remove_leftovers()
    assert {"1-55", f"{os.getpid()}-66", "other"} == {path.name for path in above.iterdir()} - {"7"}


def test_a_hierarchy_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    """Then something else limits."""
    assert frozenset() == Groups("a", [Hierarchy("/proc/nowhere", 1, ("memory",))]).controllers
    assert frozenset() == Groups("a", [Hierarchy(str(tmp_path), 2, ("memory",))]).controllers
