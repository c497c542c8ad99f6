# SPDX-License-Identifier: MIT
"""Workers of a node that ask for what are no units, or for too many of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.node.askers import FORGOTTEN_LIMIT
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    WorkerLost,
)
from pydra.model.instance import Failure
from pydra.model.unit import BRANCH_LIMIT, OUTSTANDING_BYTES, OUTSTANDING_LIMIT
from tests.support.asking import MAIN, answer, ask, asked, failure_of
from tests.support.hired import hired
from tests.support.nodes import NodeBench, batch


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


HOSTILE: list[list[object]] = [
    [frames.ASK, "Sub", [0], [b""], bytes(15), 0.0],
    [frames.ASK, "Sub", [0], [b""], bytes(32), 0.0],
    [frames.ASK, "Sub", [0], [b""], "x" * 16, 0.0],
    [frames.ASK, "Sub", [0, 1], [b""], bytes(32), 0.0],
    [frames.ASK, "Sub", [0], [b"", b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [], [], b"", 0.0],
    [frames.ASK, "Sub", [0, 0], [b"", b""], bytes(32), 0.0],
    [frames.ASK, "Sub", [-1], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [2**63], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [True], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [0.0], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [[0]], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", ["0"], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [0], [None], bytes(16), 0.0],
    [frames.ASK, "Sub", [0], ["text"], bytes(16), 0.0],
    [frames.ASK, "", [0], [b""], bytes(16), 0.0],
    [frames.ASK, "S\0b", [0], [b""], bytes(16), 0.0],
    [frames.ASK, "S\nb", [0], [b""], bytes(16), 0.0],
    [frames.ASK, "x" * (BRANCH_LIMIT + 1), [0], [b""], bytes(16), 0.0],
    [frames.ASK, b"Sub", [0], [b""], bytes(16), 0.0],
    [frames.ASK, "Sub", [0], [b""], bytes(16), -1.0],
    [frames.ASK, "Sub", [0], [b""], bytes(16), float("nan")],
    [frames.ASK, "Sub", [0], [b""], bytes(16), float("inf")],
    [frames.ASK, "Sub", [0], [b""], bytes(16), True],
    [frames.ASK, "Sub", [0], [b""], bytes(16), None],
    [frames.ASK, "Sub", [0], [b""], bytes(16)],
    [frames.ASK],
    [frames.FORGET],
    [frames.FORGET, 1],
    [frames.FORGET, "Sub", "Other"],
]


@pytest.mark.parametrize("frame", HOSTILE, ids=str)
def test_hostile(bench: NodeBench, frame: list[object]) -> None:
    """What are no units ends the asker: a root fails, a hired worker is lost, both with a sentence."""
    bench.run().says(*frame)
    failure = failure_of(bench.settle())
    assert "wire" == failure.code
    assert failure.message.startswith("The worker ")
    hired(bench).says(*frame)
    [lost] = bench.settle()
    assert isinstance(lost, WorkerLost)
    assert failure == lost.failure


@pytest.mark.parametrize(
    "branch", ["Sub", "Other", "Sub:4/Other", "Sub:1", "Sub:1/Other:0/Third", "Sub:x/Other"]
)
def test_asking_for_units_of_others(bench: NodeBench, branch: str) -> None:
    """A hired worker asks below its own units only, as somebody else may wait for the others."""
    worker = hired(bench)
    bench.tell(batch(4))
    ask(worker, 0, branch=branch)
    [lost] = bench.settle()
    assert isinstance(lost, WorkerLost)
    assert Failure("wire", "The worker asked for units of a unit that it does not run.") == lost.failure


def test_asking_for_units_of_units(bench: NodeBench) -> None:
    """The root asks for its own, not for those that its units wait for."""
    ask(bench.run(), 0, branch="Sub:1/Other")
    assert "wire" == failure_of(bench.settle()).code


def test_asking_twice(bench: NodeBench) -> None:
    """Who asks for what is outstanding is ended."""
    worker = bench.run()
    ask(worker, 0, 1)
    ask(worker, 2, 1)
    failure = failure_of(bench.settle())
    assert Failure("wire", "The worker asked for a unit again before it had the result.") == failure


def test_parts_of_several(bench: NodeBench) -> None:
    """Parts belong to the arguments of one unit alone."""
    worker = bench.run()
    worker.says(frames.PART, b"x")
    ask(worker, 0, 1)
    assert "wire" == failure_of(bench.settle()).code


def test_too_many(bench: NodeBench) -> None:
    """One unit more than may be outstanding ends the asker, however many branches there are."""
    worker = bench.run()
    ask(worker, *range(OUTSTANDING_LIMIT - 1))
    ask(worker, 0, branch="Other")
    bench.settle()
    bench.tell(answer(7))
    ask(worker, 7)
    assert [asked(7)] == bench.settle()
    ask(worker, 1, branch="Other")
    assert "more than 10000 units" in failure_of(bench.settle()).message


def test_too_much(bench: NodeBench) -> None:
    """So do too many bytes; those of forgotten units count no more."""
    worker = bench.run()
    each = 512 * 1024
    for index in range(OUTSTANDING_BYTES // each):
        ask(worker, index, size=each)
    worker.says(frames.FORGET, "Sub")
    for index in range(OUTSTANDING_BYTES // each):
        ask(worker, index, size=each)
    assert (MAIN,) == bench.units.running()
    ask(worker, 1, branch="Other")
    assert "64 MiB" in failure_of(bench.settle()).message


def test_forgetting_again_and_again(bench: NodeBench) -> None:
    """Without a master, only so many branches are remembered."""
    worker = bench.run()
    bench.cable.pull()
    for number in range(FORGOTTEN_LIMIT + 1):
        ask(worker, 0, branch=f"Sub{number}")
        worker.says(frames.FORGET, f"Sub{number}")
    assert () == bench.units.running()
    assert "again and again" in failure_of(bench.greet()).message
