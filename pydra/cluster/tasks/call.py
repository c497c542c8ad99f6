# SPDX-License-Identifier: MIT
"""One call of a task: from packed arguments to the packed result, or to a failure in words."""

from __future__ import annotations

from pydra.cluster.tasks.failure import RunFailure, failure_of
from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import ANSWER_LIMIT
from pydra.errors import InvalidParameters, LimitExceeded, TaskCancelled, WireError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from pydra.cluster.tasks.task import Task


_TEXT = frozenset({str})


def call_task(task: Task, args: bytes) -> bytes | RunFailure:
    """Run a task; whatever it does is told, only KeyboardInterrupt of the one who runs it goes through."""
    arguments = arguments_of(args)
    if isinstance(arguments, RunFailure):
        return arguments
    try:
        result = task.start(arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # noqa: BLE001 - a task may raise anything, SystemExit included
        return failure_of(fault)
    return stopped_itself(task) or packed_result(result)


def stopped_itself(task: Task) -> RunFailure | None:
    """The failure of a unit whose own code called ``stop()``; nobody who asked for it did."""
    if not task.STOP_FLAG or (task.parent is not None and task.parent.STOP_FLAG):
        return None
    return RunFailure(TaskCancelled.code, "The task stopped itself.")


def arguments_of(args: bytes | bytearray) -> dict[str, object] | RunFailure:
    """The arguments by name; no bytes are no arguments."""
    try:
        arguments = payload.unpack(args) if args else {}
    except WireError as fault:
        return RunFailure(InvalidParameters.code, f"The arguments cannot be read: {fault}")
    if not isinstance(arguments, dict) or not _TEXT.issuperset(map(type, arguments)):
        return RunFailure(InvalidParameters.code, "The arguments are not a map of names to values.")
    return arguments


def packed_result(result: object, limit: int = ANSWER_LIMIT) -> bytes | RunFailure:
    """The MessagePack of a result that can be sent; it may have so many bytes."""
    pieces = result_pieces(result, limit)
    return pieces if isinstance(pieces, RunFailure) else b"".join(pieces)


def result_pieces(result: object, limit: int = ANSWER_LIMIT) -> list[bytes] | RunFailure:
    """As `packed_result`, in pieces that follow one another; long bytes are not copied."""
    try:
        pieces = payload.pieces(result)
    except (TypeError, ValueError) as fault:
        return RunFailure("failed", f"The result cannot be sent: {fault}")
    except BaseException as fault:  # noqa: BLE001 - the values are the author's objects, and may do anything
        return failure_of(fault)
    whole = sum(map(len, pieces))
    if whole > limit:
        size, most = whole / 2**20, limit // 2**20
        return RunFailure(
            LimitExceeded.code,
            f"The result is {size:.1f} MiB packed; the limit is {most} MiB; return less.",
        )
    return pieces
