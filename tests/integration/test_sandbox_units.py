# SPDX-License-Identifier: MIT
"""Parallel tasks on a real node, in real sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.messages import STOPPED, UnitsAsked
from pydra.model.instance import Failure
from tests.support.runtimes import PACKAGES
from tests.support.sandboxed_nodes import ROOT, SandboxedNode, sandboxed_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SandboxedNode]:
    """A node that has the package ``spread``."""
    with sandboxed_node(tmp_path, PACKAGES / "spread") as made:
        yield made


def test_units_run_on_all_workers(node: SandboxedNode) -> None:
    """Each once, and the root gets all results."""
    node.run("spread.spread_tasks.Squares", 2, count=5000)
    assert {"total": sum(number * number for number in range(5000))} == node.result()
    assert 5000 == sum(node.busy.values())
    assert min(node.busy.values()) > 500


def test_a_parallel_task_in_a_container(node: SandboxedNode) -> None:
    """Its branch begins with its place."""
    node.run("spread.spread_tasks.Chain", 1)
    assert {"total": sum(number * number for number in range(1000))} == node.result()
    assert {"0.Squares.Square"} == {asked.branch for asked in node.asked}


def test_units_that_have_units(node: SandboxedNode) -> None:
    """Each asks under its own path, and its lines carry that of its units."""
    node.run("spread.spread_tasks.Table", 2)
    assert [[row * column for column in range(3)] for row in range(4)] == node.result()
    rows = {f"Row:{row}/Cell" for row in range(4)}
    assert {"Row"} | rows == {asked.branch for asked in node.asked}
    node.until(lambda: len([line for line in node.lines if line.text.startswith("cell")]) == 12)


def test_children_of_a_container_at_the_same_time(node: SandboxedNode) -> None:
    """Each is a branch of its own, and may have units."""
    node.run("spread.spread_tasks.Together", 2, count=10)
    assert [{"count": 10}, {"total": 285}, {"count": 10}] == node.result()
    branches = {"0.Answer", "1.Squares", "2.Answer", "1.Squares:0/Square"}
    assert branches == {asked.branch for asked in node.asked}


def test_a_session(node: SandboxedNode) -> None:
    """Its root lasts until it is stopped; its workers run units of the task that each branch names."""
    key = "spread.spread_tasks.Square"
    node.run("pydra.session", 1, task=key)
    args = [payload.pack({"data": number}) for number in range(3)]
    node.feed(UnitsAsked(ROOT, key, [0, 1, 2], args, bytes(48)))
    node.until(lambda: sum(node.busy.values()) == 3)
    assert [0, 1, 4] == [payload.unpack(result) for done in node.done for result in done.results]
    assert [] == node.finished
    node.stop()
    node.until(lambda: node.finished)
    assert STOPPED == node.finished[0].outcome


def test_long_arguments_and_results(node: SandboxedNode) -> None:
    """They travel as blobs, to the worker and back."""
    node.run("spread.spread_tasks.Large", 1)
    expected = {"x": [100_000, 200_000, True], "y": [3_000_000, 6_000_000, True], "z": [1, 2, True]}
    assert expected == node.result()
    assert any(asked.blobs for asked in node.asked)


def test_a_failed_unit_fails_the_root_in_words(node: SandboxedNode) -> None:
    """With the path of the unit and what it raised."""
    node.run("spread.spread_tasks.Fails", 1)
    failure = node.result()
    assert isinstance(failure, Failure)
    assert "failed" == failure.code
    assert "1/FailsAtSeven:7" in failure.message
    assert "ValueError: seven" in failure.message


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("Deadly", "worker_died", "exit"),
        ("Limited", "limit", "time limit"),
        ("Scribbling", "wire", "protocol"),
    ],
)
def test_a_worker_that_is_lost_is_told(node: SandboxedNode, name: str, code: str, words: str) -> None:
    """With the reason; the root still waits for its unit, which another worker may run."""
    node.run(f"spread.spread_tasks.{name}", 1)
    node.until(lambda: node.lost)
    assert code == node.lost[0].failure.code
    assert words in node.lost[0].failure.message
    assert [] == node.finished


def test_a_stop_reaches_a_root_that_waits(node: SandboxedNode) -> None:
    """It ends at once, though its unit goes on."""
    node.run("spread.spread_tasks.Lasting", 1)
    node.until(lambda: node.asked)
    node.stop()
    node.until(lambda: node.finished)
    assert STOPPED == node.finished[0].outcome
