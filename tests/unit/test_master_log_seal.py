# SPDX-License-Identifier: MIT
"""Seals: made and known by one master, good for one node, attempt and instance."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.master.logs.seal import SECRET_SIZE, LogSeal, load_secret
from pydra.model.ids import Attempt, InstanceId, NodeId

SEAL = LogSeal(b"a" * SECRET_SIZE)
MADE = SEAL.make(NodeId(1), Attempt(1, 12), InstanceId(3))


def test_it_holds_for_what_it_was_made_for() -> None:
    """Also for a master that started anew with the same secret."""
    assert LogSeal(b"a" * SECRET_SIZE).holds(MADE, NodeId(1), Attempt(1, 12), InstanceId(3))


@pytest.mark.parametrize(
    ("node", "attempt", "instance"),
    [
        (2, Attempt(1, 12), 3),
        (1, Attempt(1, 1), 3),
        (1, Attempt(11, 2), 3),
        (1, Attempt(1, 12), 4),
        (1, Attempt(1, 123), -1),
    ],
)
def test_it_holds_for_nothing_else(node: int, attempt: Attempt, instance: int) -> None:
    """Of another node, attempt or instance."""
    assert not SEAL.holds(MADE, NodeId(node), attempt, InstanceId(instance))


@pytest.mark.parametrize("seal", [b"", MADE[:-1], MADE + b"\0", bytes(16)])
def test_other_bytes_hold_for_nothing(seal: bytes) -> None:
    """Whatever their length."""
    assert not SEAL.holds(seal, NodeId(1), Attempt(1, 12), InstanceId(3))


def test_another_secret() -> None:
    """A seal of another master is none."""
    assert not LogSeal(b"b" * SECRET_SIZE).holds(MADE, NodeId(1), Attempt(1, 12), InstanceId(3))


def test_the_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    """For nobody else to read."""
    path = tmp_path / "logs" / "seal.key"
    secret = load_secret(path)
    assert SECRET_SIZE == len(secret)
    assert secret == load_secret(path)
    assert 0o600 == path.stat().st_mode & 0o777
    assert ["seal.key"] == [each.name for each in path.parent.iterdir()]


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 33])
def test_a_secret_that_is_not_whole_is_made_anew(tmp_path: Path, data: bytes) -> None:
    """As after a crash."""
    path = tmp_path / "seal.key"
    path.write_bytes(data)
    assert SECRET_SIZE == len(load_secret(path))
    assert load_secret(path) != data
