# SPDX-License-Identifier: MIT
"""What a node gives to tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds
from pydra.cluster.sandbox.site_limits import SiteLimits, ceilings, defaults, site_limits
from pydra.config import Settings
from pydra.errors import LimitExceeded
from pydra.model.package import TaskLimits

DEFAULTS = Bounds(100 * MEBIBYTE, 10, 0.0, 200 * MEBIBYTE, 1000)
CEILINGS = Bounds(400 * MEBIBYTE, 40, 4.0, 800 * MEBIBYTE, 1000)
SITE = SiteLimits(DEFAULTS, CEILINGS, network=False, isolation="user")


def test_who_asks_for_nothing_gets_the_usual() -> None:
    """The defaults of the settings."""
    assert DEFAULTS == SITE.bounds(TaskLimits())


def test_what_is_asked_for_is_given_up_to_the_ceiling() -> None:
    """Less than usual too."""
    asked = TaskLimits(400 * MEBIBYTE, 4, 4.0, 800 * MEBIBYTE)
    assert Bounds(400 * MEBIBYTE, 4, 4.0, 800 * MEBIBYTE, 1000) == SITE.bounds(asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (TaskLimits(memory=401 * MEBIBYTE), "401 MiB of memory; this node gives at most 400 MiB (MEMORY_CEI"),
        (TaskLimits(processes=41), "41 processes; this node gives at most 40 processes (PROCESSES_CEILING)"),
        (TaskLimits(cpus=4.5), "4.5 cores; this node gives at most 4 cores (CPUS_CEILING)"),
        (TaskLimits(scratch=2**40), "1048576 MiB of scratch; this node gives at most 800 MiB (SCRATCH_CEIL"),
        (TaskLimits(network=True), "network, which this node does not give (ALLOW_NETWORK)"),
        (TaskLimits(isolation="full"), "isolation full; that of this node is user"),
    ],
)
def test_more_is_refused_in_words(asked: TaskLimits, words: str) -> None:
    """With what would be given, and the setting that says so."""
    with pytest.raises(LimitExceeded) as caught:
        SITE.bounds(asked)
    assert words in str(caught.value)


def test_a_node_with_more_gives_it() -> None:
    """Network and isolation."""
    asked = TaskLimits(network=True, isolation="full")
    assert DEFAULTS == SITE._replace(network=True, isolation="full").bounds(asked)


def test_ceilings_of_zero_are_what_the_machine_has(tmp_path: Path) -> None:
    """And no ceiling is below what anybody gets."""
    made = ceilings(Settings(), str(tmp_path))
    assert made.memory > 64 * MEBIBYTE
    assert made.scratch > 64 * MEBIBYTE
    assert made.cpus >= 1
    low = Settings(WORKER_MEMORY_MB=512, MEMORY_CEILING_MB=64, WORKER_PROCESSES=64, PROCESSES_CEILING=4)
    assert (512 * MEBIBYTE, 64) == ceilings(low, str(tmp_path))[:2]


def test_the_masters_own_workers_have_less_memory() -> None:
    """They describe packages and check arguments."""
    assert 256 * MEBIBYTE == defaults(Settings(), "master").memory
    assert 1024 * MEBIBYTE == defaults(Settings()).memory
    assert 64 * MEBIBYTE == defaults(Settings(WORKER_MEMORY_MB=64), "master").memory


def test_limits_follow_from_settings(tmp_path: Path) -> None:
    """All of a node's together."""
    made = site_limits(Settings(ALLOW_NETWORK=True), str(tmp_path), "full")
    assert (True, "full", defaults(Settings())) == (made.network, made.isolation, made.defaults)
