# SPDX-License-Identifier: MIT
"""
Asks the sandbox what user code says of itself.

A describe run tells the tasks of a package version; if its code ends the sandbox, parts of its files are
described apart, so that only the files that do so are hidden. A validator holds one package version in a
sandbox and checks arguments with the form's own code. All run in the master's sandboxes, never in the master.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import WorkerExit, WorkerProcess, Workers
from pydra.cluster.wire import frames, payload
from pydra.errors import InvalidParameters, LimitExceeded, WireError, WorkerDied
from pydra.model.ids import PackageName, PackageVersion, TaskKey
from pydra.model.package import NO_NEEDS, FileError, Needs, PackageDescription, TaskDescription

DESCRIBE_S = 10.0
"""Seconds that a describe run, or one validation, may take."""

APART_S = 60.0
"""Seconds after which no more sandboxes are taken for the files of a package that are described apart."""

APART_FILES = 2000
"""Files that are described together in one of these, at most."""

UNSEEN_LIMIT = 100
"""If more files than this were not looked at, that is told of all of them together."""

ANSWER_LIMIT = 1024 * 1024
"""Bytes of one answer."""

VALIDATOR_IDLE_S = 60.0
"""Seconds that an unused validator is kept."""

OUTPUT_LIMIT = 4 * 1024
"""Bytes of a failed run's output that its error shows."""


Answer = tuple[bool, bytes]
"""Whether the answer is a good one, and its payload."""


_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises on bytes that are no MessagePack of a type."""

_FAULTS = (WorkerDied, LimitExceeded, WireError, *_UNREADABLE)
"""How asking the code of a package may fail by that code."""


class _Told(msgspec.Struct, frozen=True):
    """Tasks, and why there are no others."""

    tasks: tuple[TaskDescription, ...]
    errors: tuple[FileError, ...]
    size: int = 0
    """Bytes of the answer."""
    late: bool = False
    """It took too long, at least in part."""


class _Conversation:
    """Sends to one worker and waits for its answers; the first fault ends it."""

    def __init__(self, clock: IReactorTime, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._ended = ended
        self._waiting: dict[int, Deferred[Answer]] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._output = b""
        self.worker: WorkerProcess | None = None

    async def ask(self, number: int, *sent: list[object]) -> Answer:
        """The answer to frames of which the last carries this number."""
        if self.worker is None:
            raise WorkerDied
        for frame in sent:
            self.worker.send(frame)
        answer: Deferred[Answer] = Deferred()
        self._waiting[number] = answer
        answer.addTimeout(DESCRIBE_S, self._clock)
        try:
            return await answer
        except DeferredTimeout:
            late = LimitExceeded(f"The package's own code took longer than {DESCRIBE_S:g} s.")
            del self._waiting[number]
            self.fail(late)
            raise late from None
        finally:
            self._waiting.pop(number, None)

    def fail(self, fault: Exception) -> None:
        """Kill the worker and fail all who wait."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.kill()
            self._ended()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(fault)

    def frame_received(self, frame: list[object]) -> None:
        """An answer, a part of one, or a line of log (which is dropped)."""
        match frame:
            case [frames.LOG | frames.PROGRESS, *_]:
                return
            case [frames.PART, bytes() as part] if self._size + len(part) <= ANSWER_LIMIT:
                self._parts.append(part)
                self._size += len(part)
            case [frames.DESCRIBED, bytes() as rest] if self._size + len(rest) <= ANSWER_LIMIT:
                self._answer(0, (True, self._whole(rest)))
            case [frames.VALIDATED, int() as number, bool() as valid, bytes() as rest] if (
                self._size + len(rest) <= ANSWER_LIMIT
            ):
                self._answer(number, (valid, self._whole(rest)))
            case [frames.FAILED, str(), str() as text, str()]:
                self.fail(WorkerDied(text[:OUTPUT_LIMIT]))
            case _:
                self.fail(
                    WireError("The package's own code broke the protocol, or its answer was too large.")
                )

    def output_received(self, data: bytes) -> None:
        """What it prints is kept a little, to explain a crash."""
        self._output = (self._output + data)[-OUTPUT_LIMIT:]

    def exited(self, ending: WorkerExit) -> None:
        """The worker is gone."""
        said = self._output.decode("utf-8", "replace").strip()
        self.fail(
            WorkerDied(
                f"The package's own code ended its process: {ending.limit or ending.reason}. {said}".strip()
            )
        )

    def _answer(self, number: int, answer: Answer) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.callback(answer)

    def _whole(self, rest: bytes) -> bytes:
        whole = b"".join([*self._parts, rest])
        self._parts, self._size = [], 0
        return whole


class Describer:
    """Describes package versions and validates arguments, in the master's own sandbox."""

    log = Logger()

    def __init__(self, clock: IReactorTime, wall_clock: Callable[[], float], workers: Workers) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._workers = workers
        self._validators: dict[tuple[PackageName, PackageVersion, Needs], _Validator] = {}

    async def describe(
        self,
        package: PackageName,
        version: PackageVersion,
        needs: Needs = NO_NEEDS,
        files: Sequence[str] = (),
    ) -> PackageDescription:
        """
        What the package says of itself; if its code cannot be asked, a description that says why.

        ``files`` are those that may have tasks. If one of them ends the sandbox for all, they are looked
        at in several, so that it hides only itself. `SandboxError` if this machine has no sandbox now.
        """
        try:
            told = await self._ask(package, version, needs, ())
        except _FAULTS as fault:
            self.log.warn("Package {package} cannot be described: {fault}", package=package, fault=str(fault))
            if len(files) > 1:
                told = await self._ask_apart(package, version, needs, files)
            else:
                told = _Told((), (FileError("", str(fault)),), late=isinstance(fault, LimitExceeded))
        described = self._wall_clock()
        return PackageDescription(package, version, told.tasks, told.errors, described, needs, told.late)

    async def _ask_apart(
        self, package: PackageName, version: PackageVersion, needs: Needs, files: Sequence[str]
    ) -> _Told:
        """What quarters of the files tell, or quarters of these, in sandboxes of their own."""
        until = self._clock.seconds() + APART_S
        waiting = deque(_quarters(files))
        tasks: list[TaskDescription] = []
        errors: list[FileError] = []
        size, is_late = 0, False
        while waiting and self._clock.seconds() < until and size <= ANSWER_LIMIT:
            some = waiting.popleft()
            try:
                told = await self._ask(package, version, needs, some)
            except _FAULTS as fault:
                if len(some) > 1:
                    waiting += _quarters(some)
                else:
                    errors.append(FileError(some[0], str(fault)))
                    is_late |= isinstance(fault, LimitExceeded)
                continue
            size += told.size
            is_late |= told.late
            known = {"", *some}
            tasks += [task for task in told.tasks if f"{task.key.split('.')[1]}.py" in known]
            errors += [
                each if each.file in known else FileError(some[0], each.message) for each in told.errors
            ]
        errors += _unseen([file for some in waiting for file in some])
        tasks.sort(key=lambda task: task.key)
        errors.sort(key=lambda error: error.file)
        return _Told(tuple(tasks), tuple(errors), size, is_late or bool(waiting))

    async def _ask(
        self, package: PackageName, version: PackageVersion, needs: Needs, files: Sequence[str]
    ) -> _Told:
        """What one sandbox tells of these files, or of all."""
        conversation = _Conversation(self._clock, lambda: None)
        conversation.worker = await self._workers.take(conversation, package, version, needs)
        try:
            frame = [frames.DESCRIBE, package, version, _names(needs), list(files)]
            _, answer = await conversation.ask(0, frame)
            told = msgspec.msgpack.decode(answer, type=PackageDescription)
        finally:
            conversation.fail(WorkerDied())
        tasks = tuple(task for task in told.tasks if task.key.startswith(f"{package}."))
        return _Told(tasks, told.errors, len(answer), told.late)

    async def validate(
        self,
        package: PackageName,
        version: PackageVersion,
        task_key: TaskKey,
        arguments: dict[str, object],
        needs: Needs = NO_NEEDS,
    ) -> dict[str, object]:
        """The arguments as the form's own code cleans them; `InvalidParameters` with its errors by field."""
        try:
            packed = payload.pack(arguments, "args")
        except (TypeError, ValueError) as fault:
            raise InvalidParameters(str(fault)) from None
        key = (package, version, needs)
        validator = self._validators.get(key)
        if validator is None:

            def ended() -> None:
                self._validators.pop(key, None)

            validator = self._validators[key] = _Validator(self._clock, needs, ended)
            await validator.start(self._workers, package, version)
        try:
            return await validator.validate(package, task_key, packed)
        except (WorkerDied, LimitExceeded, WireError) as fault:
            raise InvalidParameters(f"The arguments could not be checked: {fault}") from None

    def stop(self) -> None:
        """End all validators."""
        for validator in list(self._validators.values()):
            validator.end()


class _Validator:
    """One package version in a sandbox with what it needs, kept while it is used."""

    def __init__(self, clock: IReactorTime, needs: Needs, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._needs = needs
        self._conversation = _Conversation(clock, self._forget)
        self._ended = ended
        self._number = 0
        self._idle: IDelayedCall | None = None
        self._started: list[Deferred[None]] | None = []

    async def start(self, workers: Workers, package: PackageName, version: PackageVersion) -> None:
        """Take a sandbox for it."""
        try:
            self._conversation.worker = await workers.take(self._conversation, package, version, self._needs)
        except BaseException as fault:
            self._ended()
            self._wake(fault)
            raise
        self._wake(None)

    async def validate(self, package: PackageName, task_key: TaskKey, packed: bytes) -> dict[str, object]:
        """The cleaned arguments; several may be under way at once."""
        if self._started is not None:
            waiter: Deferred[None] = Deferred()
            self._started.append(waiter)
            await waiter
        self._be_idle(False)
        self._number += 1
        number = self._number
        more, rest = frames.in_parts(frames.MORE, packed)
        last: list[object] = [frames.VALIDATE, number, package, task_key, rest, _names(self._needs)]
        try:
            valid, answer = await self._conversation.ask(number, *more, last)
        finally:
            # Who asked may have left: it is kept for a minute all the same, and not for ever.
            self._be_idle(self._conversation.worker is not None)
        value = payload.unpack(answer)
        if not isinstance(value, dict):
            raise WireError("A validator answers a map.")
        if not valid:
            raise InvalidParameters(errors={str(name): _texts(told) for name, told in value.items()})
        return {str(name): cleaned for name, cleaned in value.items()}

    def end(self) -> None:
        """Kill it."""
        self._conversation.fail(WorkerDied())

    def _be_idle(self, idle: bool) -> None:
        """Its idle time begins, anew if it had begun, or ends."""
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = self._clock.callLater(VALIDATOR_IDLE_S, self.end) if idle else None

    def _forget(self) -> None:
        self._be_idle(False)
        self._ended()

    def _wake(self, fault: BaseException | None) -> None:
        waiting, self._started = self._started or [], None
        for waiter in waiting:
            if fault is None:
                waiter.callback(None)
            else:
                waiter.errback(fault)


def _names(needs: Needs) -> list[str]:
    """The dependencies, as a worker is told of them."""
    return [package for package, _ in needs.dependencies]


def _quarters(files: Sequence[str]) -> list[Sequence[str]]:
    """Four parts, or fewer or more if there are few or many."""
    size = min(APART_FILES, (len(files) + 3) // 4)
    return [files[start : start + size] for start in range(0, len(files), size)]


def _unseen(files: Sequence[str]) -> list[FileError]:
    if len(files) > UNSEEN_LIMIT:
        told = f"{len(files):,} files, {files[0]} among them, were not looked at: those before took too much."
        return [FileError("", told)]
    return [FileError(file, "It was not looked at: the files before it took too much.") for file in files]


def _texts(told: object) -> list[str]:
    """The messages of a field; the form's own code may have made anything of them."""
    return [str(text) for text in told] if isinstance(told, list) else [str(told)]
