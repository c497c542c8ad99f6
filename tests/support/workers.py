# SPDX-License-Identifier: MIT
"""Workers without processes: a test says what each of them says, writes, and how it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.interfaces import WorkerExit, WorkerListener
from pydra.cluster.wire.frames import FrameReader, encode
from pydra.errors import PydraError, SandboxError, WorkersUnavailable
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.package import NO_NEEDS, Needs

T = TypeVar("T")

KILLED = WorkerExit(137, "killed by SIGKILL")
OVERDUE = WorkerExit(137, "killed by SIGKILL", is_overdue=True)


class ScriptedWorker:
    """
    A ``WorkerProcess`` of `ScriptedWorkers`.

    ``sent`` lists the frames that it was sent, read back from their bytes. What it says goes through the real
    encoding too, so a listener gets what it would get over a channel.
    """

    def __init__(
        self,
        clock: IReactorTime,
        listener: WorkerListener,
        package: PackageName | None,
        version: PackageVersion | None,
        needs: Needs,
    ) -> None:
        self.package = package
        self.version = version
        self.needs = needs
        self.sent: list[list[object]] = []
        self.is_killed = False
        self.is_gone = False
        self.is_paused = False
        self._is_telling = False
        self.behind = 0
        """Bytes that it has not read."""
        self.limits: list[float] = []
        """Until when it may live, as it was told."""
        self._clock = clock
        self._listener = listener
        self._limit: IDelayedCall | None = None
        self._sent_bytes = FrameReader()
        self._said_bytes = FrameReader()
        self._held: deque[list[object] | bytes] = deque()

    # WorkerProcess.

    def send(self, frame: list[object]) -> None:
        """Keep the frame; `WireError` if it is too large."""
        data = encode(frame)
        if not self.is_gone:
            self.sent += self._sent_bytes.feed(data)

    def backlog(self) -> int:
        """As a test says."""
        return self.behind

    def kill(self) -> None:
        """It is gone at the next turn of the clock."""
        if not self.is_killed and not self.is_gone:
            self.is_killed = True
            self._clock.callLater(0, self.exits, KILLED)

    def live_until(self, at: float) -> None:
        """It is gone at that time, which is one of its clock."""
        if not self.is_gone:
            self.limits.append(at)
            self._forget_limit()
            self._limit = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._overdue)

    def _overdue(self) -> None:
        self.exits(OVERDUE)

    def _forget_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()

    def pause_output(self, paused: bool) -> None:
        """Hold back what it says, or tell it."""
        self.is_paused = paused
        if self._is_telling:
            return  # what is paused and read again while it is told a frame is told the next one after it
        self._is_telling = True
        while self._held and not self.is_paused:
            self._tell(self._held.popleft())
        self._is_telling = False

    # What a test does.

    def says(self, *frame: object) -> None:
        """It sends a frame."""
        for whole in self._said_bytes.feed(encode(list(frame))):
            self._hold_or_tell(whole)

    def writes(self, data: bytes) -> None:
        """Its processes write to descriptor 1 or 2."""
        self._hold_or_tell(data)

    def exits(self, ending: WorkerExit) -> None:
        """It and all its processes are gone, unless they were before."""
        if not self.is_gone:
            self.pause_output(False)
            self.is_gone = True
            self._forget_limit()
            self._hear(self._listener.exited, ending)

    def _hold_or_tell(self, what: list[object] | bytes) -> None:
        if self.is_paused:
            self._held.append(what)
        else:
            self._tell(what)

    def _tell(self, what: list[object] | bytes) -> None:
        if self.is_gone:
            return
        if isinstance(what, bytes):
            self._hear(self._listener.output_received, what)
        else:
            self._hear(self._listener.frame_received, what)

    def _hear(self, call: Callable[[T], None], what: T) -> None:
        """Its listener is told."""
        call(what)


class ScriptedWorkers:
    """
    A pool of `ScriptedWorker`; an implementation of ``Workers``.

    ``taken`` lists all that were given. ``hold`` lets takers wait until ``release``; while ``fault`` is set,
    takers are refused with it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.taken: list[ScriptedWorker] = []
        self.fault: PydraError | None = None
        self._clock = clock
        self._held: list[Deferred[None]] | None = None
        self._is_stopped = False

    async def start(self) -> None:
        """Nothing is to be done ahead."""

    def refusal(self) -> str:
        """The fault, if it is that none can be started."""
        return str(self.fault) if isinstance(self.fault, WorkersUnavailable) else ""

    async def take(
        self,
        listener: WorkerListener,
        package: PackageName | None,
        version: PackageVersion | None,
        needs: Needs = NO_NEEDS,
        module: str = "",
    ) -> ScriptedWorker:
        """A worker, or `SandboxError` after ``stop`` or with a fault."""
        if self._held is not None:
            waiting: Deferred[None] = Deferred()
            self._held.append(waiting)
            await waiting
        if self._is_stopped:
            raise SandboxError("The daemon is stopping.")
        if self.fault is not None:
            raise self.fault
        worker = self._make(listener, package, version, needs)
        self.taken.append(worker)
        return worker

    def _make(
        self,
        listener: WorkerListener,
        package: PackageName | None,
        version: PackageVersion | None,
        needs: Needs,
    ) -> ScriptedWorker:
        return ScriptedWorker(self._clock, listener, package, version, needs)

    async def stop(self) -> None:
        """All that were given are gone; whoever waits is refused."""
        self._is_stopped = True
        self.release()
        for worker in self.taken:
            worker.exits(KILLED)

    def hold(self) -> None:
        """Later takers wait."""
        self._held = []

    def release(self) -> None:
        """Those who wait are served."""
        held, self._held = self._held or [], None
        for waiting in held:
            waiting.callback(None)

    @property
    def last(self) -> ScriptedWorker:
        """The worker that was given last."""
        return self.taken[-1]
