# SPDX-License-Identifier: MIT
"""A hired worker that tells what is not so is ended, and nothing of it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import (
    WorkerLost,
)
from tests.support.hired import done, hired, loss
from tests.support.nodes import NodeBench, batch

MEGABYTE = 1024 * 1024


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[NodeBench]:
    """A node that its master has greeted."""
    bench = NodeBench(tmp_path)
    bench.greet()
    yield bench
    bench.close()


HOSTILE: list[list[object]] = [
    [frames.DONE, "1.101", 0, [b""], {}, 0.5],
    [frames.DONE, "1.100", 1, [b""], {}, 0.5],
    [frames.DONE, "1.100", -1, [b""], {}, 0.5],
    [frames.DONE, "1.100", 0, [], {}, 0.5],
    [frames.DONE, "1.100", 0, [b"", b"", b""], {}, 0.5],
    [frames.DONE, "1.100", 0, ["text"], {}, 0.5],
    [frames.DONE, "1.100", 0, [b"", 1], {}, 0.5],
    [frames.DONE, "1.100", 0, [None], {}, 0.5],
    [frames.DONE, "1.100", 0, b"\x05", {}, 0.5],
    [frames.DONE, "1.100", 0, [b""], [], 0.5],
    [frames.DONE, "1.100", 0, [b""], {1: ["failed", "x", ""]}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {-1: ["failed", "x", ""]}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {"0": ["failed", "x", ""]}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {0: ["failed", "x"]}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {0: ["failed", b"x", ""]}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {0: "failed"}, 0.5],
    [frames.DONE, "1.100", 0, [b""], {}, "long"],
    [frames.DONE, "1.100", 0, [b""], {}, float("nan")],
    [frames.DONE, "1.100", 0, [b""], {}, float("inf")],
    [frames.DONE, "1.100", 0, [b""], {}, -0.5],
    [frames.DONE, "1.100", 0, [b""], {}, None],
    [frames.DONE, "1.100", 0, [b""], {}],
    [frames.DONE, "1.100", "0", [b""], {}, 0.5],
    [frames.DONE, 1, 0, [b""], {}, 0.5],
    [frames.RESULT, b"\x05"],
    [frames.STOPPED],
    [frames.READY],
    [frames.READY, 1],
    [frames.SERVE],
    [frames.UNITS],
    [frames.LOG, [], "Sub", -1],
    [frames.LOG, [], "Sub", 2**63],
    [frames.LOG, [], "x" * 1025, 0],
    [frames.LOG, [], 1, 0],
    [frames.PROGRESS, "all", None],
    [frames.PART, "text"],
    [99],
]


@pytest.mark.parametrize("frame", HOSTILE, ids=str)
def test_hostile(bench: NodeBench, frame: list[object]) -> None:
    """What is no true word of its units ends the worker, and nothing of it is taken."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.says(*frame)
    [message] = bench.advance(0)
    assert isinstance(message, WorkerLost)
    assert "wire" == message.failure.code
    assert message.failure.message.startswith("The worker ")
    assert worker.is_gone
    assert () == bench.hired.attempts()


def test_results_twice(bench: NodeBench) -> None:
    """Results that were told are not told again."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.says(frames.DONE, "1.100", 0, [b"\x05"], {}, 0.5)
    worker.says(frames.DONE, "1.100", 0, [b"\x06"], {}, 0.5)
    told, lost = bench.settle()
    assert done(0, b"\x05") == told
    assert "wire" == loss([lost]).code


def test_the_next_batch_first(bench: NodeBench) -> None:
    """A batch that was sent is not told of before the one before it is done."""
    worker = hired(bench)
    bench.tell(batch(1), batch(1, number=101))
    worker.says(frames.DONE, "1.101", 0, [b"\x05"], {}, 0.5)
    assert "wire" == loss(bench.settle()).code


def test_parts_of_several(bench: NodeBench) -> None:
    """Parts belong to one result alone."""
    worker = hired(bench)
    bench.tell(batch(2))
    worker.says(frames.PART, b"x")
    worker.says(frames.DONE, "1.100", 0, [b"", b""], {}, 0.5)
    assert "wire" == loss(bench.settle()).code


def test_parts_above_the_limit(bench: NodeBench) -> None:
    """A result of more than 8 MiB ends the worker."""
    worker = hired(bench)
    bench.tell(batch(1))
    for _ in range(16):
        worker.says(frames.PART, bytes(MEGABYTE // 2))
    worker.says(frames.DONE, "1.100", 0, [b"x"], {}, 0.5)
    assert "wire" == loss(bench.settle()).code
