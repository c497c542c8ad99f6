# SPDX-License-Identifier: MIT
"""A result that does not fit into the memory of a node, and what becomes of it."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import UnitFinished
from tests.support.nodes import NodeBench
from tests.support.workers import ScriptedWorker

PIECE = bytes(range(256)) * 2048
LARGE = PIECE * 20 + b"end"
DIGEST = hashlib.sha256(LARGE).hexdigest()


def outcome(bench: NodeBench) -> UnitFinished:
    """The one outcome that the node tells now."""
    bench.clock.advance(0)
    [message] = [message for message in bench.settle() if isinstance(message, UnitFinished)]
    return message


def left(tmp_path: Path) -> list[str]:
    """The files of the outbox, besides its journal."""
    gc.collect()
    return sorted(path.name for path in (tmp_path / "outbox").iterdir() if path.name != "journal")


def says_parts(worker: ScriptedWorker, pieces: int = 20, rest: int = 3) -> None:
    """The worker announces an answer and sends parts of it; some bytes come with the answer itself."""
    worker.says(frames.LONG, pieces * len(PIECE) + rest)
    for _ in range(pieces):
        worker.says(frames.PART, PIECE)
