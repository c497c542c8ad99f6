# SPDX-License-Identifier: MIT
"""The file with the highest epoch that a node has seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.node.epoch import EpochFile
from pydra.errors import StoreError
from tests.support.cables import unthreaded
from tests.support.pumps import result_of


def loaded(path: Path) -> EpochFile:
    """The file as a daemon has it that starts."""
    epochs = EpochFile(path, unthreaded)
    result_of(Deferred.fromCoroutine(epochs.load()))
    return epochs


def accepts(epochs: EpochFile, *numbers: int) -> list[bool]:
    """Which masters are accepted, one after the other."""
    return [result_of(Deferred.fromCoroutine(epochs.accept(number))) for number in numbers]


def test_the_highest_epoch(tmp_path: Path) -> None:
    """It is remembered over restarts, and a lower one refused."""
    path = tmp_path / "epoch"
    assert [True, True, False, True] == accepts(loaded(path), 3, 3, 2, 7)
    assert [False, False, True, True] == accepts(loaded(path), -1, 6, 7, 8)
    assert ["epoch"] == [file.name for file in tmp_path.iterdir()]


@pytest.mark.parametrize("content", [b"", b"no number", b"\xff\xfe", b"9" * 5000, b"-3", b"7\n8"])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    """A node that does not know whom it obeyed says so, and does not start."""
    path = tmp_path / "epoch"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        loaded(path)
    assert content == path.read_bytes()


def test_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is on the disk before the file has its name, and the name is before anybody obeys."""
    path = tmp_path / "epoch"
    epochs = loaded(path)
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append((os.readlink(f"/proc/self/fd/{file}"), path.exists()))
    )
    assert [True] == accepts(epochs, 5)
    assert [(str(tmp_path / "epoch.new"), False), (str(tmp_path), True)] == synced


def test_masters_one_soon_after_the_other(tmp_path: Path) -> None:
    """While the epoch of one is written another is refused or newer, and the newest is written last."""
    waiting: list[Deferred[None]] = []

    async def slow(function: Callable[..., Any], *arguments: Any) -> Any:
        turn: Deferred[None] = Deferred()
        waiting.append(turn)
        await turn
        return function(*arguments)

    epochs = EpochFile(tmp_path / "epoch", slow)
    first, older, second, same = (Deferred.fromCoroutine(epochs.accept(epoch)) for epoch in (3, 2, 4, 4))
    while waiting:
        waiting.pop(0).callback(None)
    assert [False, False, True, True] == [result_of(each) for each in (first, older, second, same)]
    assert "4" == (tmp_path / "epoch").read_text()


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    """The master is not obeyed; it is when it asks again and the disk takes it."""
    epochs = EpochFile(tmp_path / "gone" / "epoch", unthreaded)
    with pytest.raises(OSError, match="No such file"):
        accepts(epochs, 3)
    (tmp_path / "gone").mkdir()
    assert [False, True] == accepts(epochs, 2, 3)
