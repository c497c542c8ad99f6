# SPDX-License-Identifier: MIT
"""An exception of a task in words: a code, one sentence, and a traceback of the author's frames only."""

from __future__ import annotations

import errno
import os

from pydra.errors import PydraError, TaskError, TaskFailed

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from traceback import TracebackException
    from types import TracebackType

MESSAGE_LIMIT, TRACEBACK_LIMIT = 4 * 1024, 64 * 1024
"""
As in ``pydra.model.instance``, which a worker does not load; but bytes of a traceback, whose beginning is
cut, since its end says most.
"""

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The directory that holds ``worker`` and ``tasks``."""


class FailedBelow(TaskFailed):
    """A task failed since something of its author's did: the traceback to tell is that of the cause alone."""


class ToldTraceback(Exception):
    """The traceback of another process, as the cause of what its failure led to."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class RunFailure:
    """Why a run failed, ready to be sent."""

    __slots__ = ("code", "message", "traceback")

    def __init__(self, code: str, message: str, traceback: str = "") -> None:
        self.code = code
        self.message = _sendable(message)[:MESSAGE_LIMIT]
        self.traceback = traceback


def failure_of(fault: BaseException) -> RunFailure:
    """What a task raised; never raises, whatever the exception does when it is looked at."""
    try:
        return RunFailure(*_told(fault), traceback_of(fault))
    except BaseException:  # noqa: BLE001 - the exception is the author's code, its text too
        return RunFailure(TaskFailed.code, type(fault).__name__)


def words_of(fault: BaseException) -> str:
    """``ValueError: text``; never raises."""
    try:
        return _sendable(_told(fault)[1])[:MESSAGE_LIMIT]
    except BaseException:  # noqa: BLE001 - the text is the author's code
        return type(fault).__name__


def traceback_of(fault: BaseException) -> str:
    """The traceback without our own frames, cut to the limit; empty if it cannot be told."""
    try:
        if isinstance(fault, FailedBelow):
            return traceback_of(fault.__cause__) if fault.__cause__ is not None else ""
        if isinstance(fault, ToldTraceback):
            return str(fault.args[0])
        import traceback  # noqa: PLC0415 - only a failure pays for it; fails if all descriptors are in use

        told = traceback.TracebackException(type(fault), fault, fault.__traceback__, compact=True)
        _without_ours(told, 0)
        data = "".join(told.format()).encode("utf-8", "backslashreplace")
    except BaseException:  # noqa: BLE001 - the author's exceptions may fail in any way when printed
        return ""
    if len(data) > TRACEBACK_LIMIT:
        data = b"...\n" + data[-TRACEBACK_LIMIT + 4 :]
    return data.decode("utf-8", "ignore")


def raised_by_call(fault: BaseException) -> bool:
    """True if the call of ``work`` itself failed, so no line of the author's code had run."""
    where: TracebackType | None = fault.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return where is not None and where.tb_frame.f_code.co_filename.startswith(_OURS + os.sep)


def _told(fault: BaseException) -> tuple[str, str]:
    if isinstance(fault, SystemExit):
        code = "" if fault.code is None else repr(fault.code)
        return "failed", f"The task called sys.exit({code})."
    if isinstance(fault, KeyboardInterrupt):
        return "failed", "The task was interrupted (KeyboardInterrupt)."
    if isinstance(fault, TypeError) and raised_by_call(fault):
        return "invalid_parameters", f"The arguments do not fit the task: {fault}."
    if isinstance(fault, PydraError):
        code = fault.code if isinstance(fault, TaskError) and isinstance(fault.code, str) else "failed"
        return ("failed" if code == "cancelled" else code), str(fault)
    if limit := limit_reached(fault):
        return "limit", limit
    text = str(fault)
    return "failed", f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def limit_reached(fault: BaseException) -> str:
    """The resource limit that made this process raise; empty if none did."""
    if isinstance(fault, MemoryError):
        return _reached("RLIMIT_AS", "address space limit of {}")
    if isinstance(fault, OSError) and fault.errno == errno.EFBIG:
        return _reached("RLIMIT_FSIZE", "limit of {} for one file")
    if isinstance(fault, (BlockingIOError, RuntimeError)) and os.getppid() == 1:
        return _processes_reached(fault)
    return ""


def _processes_reached(fault: BaseException) -> str:
    """That there were as many processes and threads as there may be; in a sandbox: all in /proc are ours."""
    import resource  # noqa: PLC0415 - only a failure pays for it

    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0] - 1  # the first process is not the task's
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        limit -= 1  # there is a group, whose limit comes first
    if limit <= 0:
        return ""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue  # it has just ended
    # Those of a fork bomb are ending by now.
    return f"process limit of {limit} reached" if count > limit or _could_not_start(fault) else ""


def _could_not_start(fault: BaseException) -> bool:
    """True if no process, or no thread, could be started where this was raised."""
    if isinstance(fault, RuntimeError):
        return str(fault) == "can't start new thread"
    where: TracebackType | None = fault.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    names = () if where is None else where.tb_frame.f_code.co_names
    return any("fork" in name or "spawn" in name for name in names)


def _reached(name: str, words: str) -> str:
    import resource  # noqa: PLC0415 - only a failure pays for it

    value = resource.getrlimit(getattr(resource, name))[0]
    if value == resource.RLIM_INFINITY:
        return ""
    mebibytes, rest = divmod(value, 1024 * 1024)
    return f"{words.format(f'{value} bytes' if rest else f'{mebibytes} MiB')} reached"


def _without_ours(told: TracebackException, depth: int) -> None:
    """Remove our frames, and those of the import system, from an exception and what it came from."""
    stack = [
        frame for frame in told.stack if not frame.filename.startswith((_OURS + os.sep, "<frozen importlib"))
    ]
    told.stack[:] = stack
    if depth > 100:
        told.__cause__ = told.__context__ = None
    inner = [
        told.__cause__,
        told.__context__,
        *(told.exceptions or () if hasattr(told, "exceptions") else ()),
    ]
    for one in inner:
        if one is not None:
            _without_ours(one, depth + 1)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
