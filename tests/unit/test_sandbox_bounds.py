# SPDX-License-Identifier: MIT
"""What a worker may use, and the resource limits that follow from it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from pydra.cluster.sandbox.launcher import bounds, rlimits
from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds, BoundsFault

SOME = Bounds(256 * MEBIBYTE, 64, 0.5, 100 * MEBIBYTE, 1000)
CEILINGS = Bounds(512 * MEBIBYTE, 128, 2.0, 200 * MEBIBYTE, 2000)


def test_bounds_survive_json() -> None:
    """A list of five numbers."""
    assert SOME == bounds.read_bounds(list(SOME), CEILINGS)
    assert SOME._replace(cpus=0) == bounds.read_bounds(list(SOME._replace(cpus=0)), CEILINGS)
    assert CEILINGS == bounds.read_bounds(list(CEILINGS), CEILINGS)


@pytest.mark.parametrize(
    "listed",
    [
        None,
        {},
        [],
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6],
        list(SOME._replace(memory=0)),
        list(SOME._replace(memory=-1)),
        list(SOME._replace(memory=CEILINGS.memory + 1)),
        list(SOME._replace(processes=129)),
        list(SOME._replace(cpus=2.1)),
        list(SOME._replace(cpus=-0.5)),
        list(SOME._replace(cpus=float("nan"))),
        list(SOME._replace(scratch=2**80)),
        list(SOME._replace(files=True)),
        [1.5, *SOME[1:]],
        ["1", *SOME[1:]],
        [[1], *SOME[1:]],
    ],
)
def test_other_bounds_are_refused(listed: object) -> None:
    """Nothing above the ceilings, nothing below what can run, and no other kind of thing."""
    with pytest.raises(BoundsFault):
        bounds.read_bounds(listed, CEILINGS)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (bounds.MEMORY, "memory limit of 256 MiB reached"),
        (bounds.PROCESSES, "process limit of 64 reached"),
        (bounds.SCRATCH, "scratch limit of 100 MiB reached"),
        (bounds.FILES, "scratch limit of 1000 files reached"),
    ],
)
def test_a_reached_limit_is_told_with_its_figure(what: str, expected: str) -> None:
    """Exactly the one that holds."""
    assert expected == bounds.words(what, SOME)


def test_an_odd_size_is_told_in_bytes() -> None:
    """No figure is rounded."""
    assert "memory limit of 1048577 bytes reached" == bounds.words(
        bounds.MEMORY, SOME._replace(memory=MEBIBYTE + 1)
    )


def test_limits_follow_from_bounds() -> None:
    """The size of a file always; address space and processes only where no group limits them."""
    size = (resource.RLIMIT_FSIZE, 100 * MEBIBYTE)
    assert (size,) == rlimits.of(SOME, memory=False, others=None)
    assert (
        size,
        (resource.RLIMIT_AS, 4 * 1024**3),
        (resource.RLIMIT_NPROC, 66),
    ) == rlimits.of(SOME, memory=True, others=2)
    large = rlimits.of(SOME._replace(memory=8 * 1024**3), memory=True, others=None)
    assert (resource.RLIMIT_AS, 32 * 1024**3) == large[1]


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.18.44-x", True),
        ("5.14.0", True),
        ("5.13.19-generic", False),
        ("5.4", False),
        ("4.18.0-553.el8", False),
        ("10.0", True),
    ],
)
def test_kernels_that_count_by_namespace(release: str, expected: bool) -> None:
    """Since 5.14."""
    assert expected == rlimits.counts_by_namespace(release)


def test_limits_are_put_on_a_running_process_and_never_raised() -> None:
    """A worker that was started ahead gets its bounds before it sees any code."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        rlimits.apply_to(child.pid, [(resource.RLIMIT_NOFILE, 100)])  # type: ignore[arg-type]
        rlimits.apply_to(child.pid, [(resource.RLIMIT_NOFILE, 200)])  # type: ignore[arg-type]
        assert (100, 100) == resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
        assert child.pid in rlimits.threads_and_children(os.getpid())[1]
        child.kill()
    assert (0, []) == rlimits.threads_and_children(child.pid)
