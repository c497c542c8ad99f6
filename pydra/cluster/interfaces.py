# SPDX-License-Identifier: MIT
"""
The seams, as Protocols named by plain nouns.

Who meets here: the daemons and the store (``Store``); the daemons and the machine that runs user code
(``Workers``, ``WorkerProcess``, ``WorkerListener``); master and node (``Link``, ``LinkUser``, ``Bulk``,
``BulkSink``); the controller API and the master (``Commands``, ``Socket``, ``Speaker``); a task that asks for
units and whoever runs them (``Units``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from pydra.model.changes import Change, Committed
from pydra.model.ids import Attempt, InstanceId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Ended, Instance
from pydra.model.node import Node
from pydra.model.package import NO_NEEDS, Needs, PackageDescription
from pydra.model.status import Status
from pydra.model.unit import UnitCounts, UnitPlace, UnitRow

if TYPE_CHECKING:
    from pydra.cluster.wire.messages import ToMaster, ToNode


class HistoryPage(msgspec.Struct, frozen=True):
    """Ten instances of a task, newest first; ``page`` was clipped to 1..``pages``."""

    instances: tuple[Instance, ...]
    page: int
    pages: int


class Store(Protocol):
    """What the master remembers. Every coroutine may be awaited in the reactor; none blocks it."""

    epoch: int
    """Raised by one each time the store is opened for writing."""

    async def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """
        Commit the changes, all in one transaction, and tell the outcome of each.

        Commits take effect in the order of the calls; many calls may share one transaction.
        `StoreError` if nothing was changed, and `Unstorable` if it never can be.
        """
        ...

    async def instance(self, instance: InstanceId) -> Instance | None:
        """The instance as it was committed last, or None."""
        ...

    async def endings(self, instances: Collection[InstanceId]) -> dict[InstanceId, Ended]:
        """How those of these instances ended that are final."""
        ...

    async def unfinished(self) -> list[Instance]:
        """All instances that are not final, by id."""
        ...

    async def history(self, task_key: TaskKey, page: int) -> HistoryPage:
        """One page of the instances of a task; a page out of range is clipped."""
        ...

    async def recent(self, limit: int) -> list[Instance]:
        """The newest instances of all tasks, newest first."""
        ...

    async def last_runs(self) -> dict[TaskKey, float]:
        """When the latest complete instance of each task ended, UTC seconds."""
        ...

    async def highest_instance(self) -> InstanceId:
        """The highest id ever given; 0 if none."""
        ...

    async def blobs(self) -> set[str]:
        """The names of the payloads, of all instances and units, that are not inline."""
        ...

    async def units(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> list[UnitRow]:
        """Those of these units that there are, by index."""
        ...

    async def unit_page(
        self,
        instance: InstanceId,
        branch: str | None = None,
        after: UnitPlace | None = None,
        limit: int = 100,
        status: Status | None = None,
    ) -> list[UnitRow]:
        """The first units after a place, at most a thousand; only of a branch or a status, if it is told."""
        ...

    async def queued_units(self, instance: InstanceId) -> list[UnitRow]:
        """What the client of a session submitted and did not end, by branch and index."""
        ...

    async def running_units(self) -> list[UnitRow]:
        """What has a guarantee and was begun, of all instances that are not final; by instance."""
        ...

    async def unit_counts(self, instance: InstanceId, branch: str | None = None) -> UnitCounts:
        """How many units of an instance the store has; only of a branch, if it is told."""
        ...

    async def nodes(self) -> list[Node]:
        """All node records, deleted ones too, by id."""
        ...

    async def package(self, package: PackageName, version: PackageVersion) -> PackageDescription | None:
        """What the describe run of this version told, or None."""
        ...


class WorkerExit(msgspec.Struct, frozen=True):
    """How a worker ended: 128 + signal, or its exit code; ``reason`` is a sentence for people."""

    status: int
    reason: str
    limit: str = ""
    """The limit that it had reached, such as ``memory limit of 256 MiB reached``."""
    has_sent_garbage: bool = False
    """What it sent were no frames, so it was ended."""
    is_overdue: bool = False
    """The time that it was to live until had passed, so it was ended."""


class WorkerListener(Protocol):
    """What is told of one worker. After ``exited`` nothing follows, and no process of it is alive."""

    def frame_received(self, frame: list[object]) -> None:
        """A frame (see ``wire.frames``); its contents are untrusted."""
        ...

    def output_received(self, data: bytes) -> None:
        """Bytes that its processes wrote to descriptors 1 and 2."""
        ...

    def exited(self, ending: WorkerExit) -> None:
        """The worker and all its processes are gone."""
        ...


class WorkerProcess(Protocol):
    """One sandboxed worker, used once."""

    def send(self, frame: list[object]) -> None:
        """Send a frame; after the worker is gone this does nothing."""
        ...

    def backlog(self) -> int:
        """Bytes that it has not read yet."""
        ...

    def kill(self) -> None:
        """End it and every process it started; ``exited`` follows."""
        ...

    def live_until(self, at: float) -> None:
        """Have it ended at this boot time, even if the daemon stands still; the latest word counts."""
        ...

    def pause_output(self, paused: bool) -> None:
        """Stop (or go on) reading from it; a paused worker blocks when its pipes are full."""
        ...


class Workers(Protocol):
    """Where sandboxed workers come from: a pool of warm, unused ones."""

    async def take(
        self,
        listener: WorkerListener,
        package: PackageName | None,
        version: PackageVersion | None,
        needs: Needs = NO_NEEDS,
        module: str = "",
    ) -> WorkerProcess:
        """
        A worker that said READY, with the package (if any) and what it needs mounted.

        All of it must be in the directories that this was made for; ``module`` of the package may have been
        imported ahead. `WorkersUnavailable` if none can be started at the moment, `SandboxError` if it cannot
        have what it needs, `LimitExceeded` if more is asked for than is given here.
        """
        ...

    def refusal(self) -> str:
        """Why no worker can be started at the moment; empty if one can."""
        ...

    async def start(self) -> None:
        """Begin to keep workers warm."""
        ...

    async def stop(self) -> None:
        """Kill all workers, taken ones too."""
        ...


class Link(Protocol):
    """The live control connection to a peer."""

    def send(self, message: ToNode | ToMaster) -> None:
        """Queue a message; all of one reactor turn leave as one batch, in order."""
        ...

    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        ...

    def close(self, reason: str) -> None:
        """Drop the connection; ``link_down`` follows."""
        ...


class Bulk(Protocol):
    """The live bulk connection to a peer, with flow control by credit."""

    async def send(self, kind: str, detail: str, chunks: AsyncIterator[bytes]) -> None:
        """Send a stream, until the peer has taken all of it. `LinkLost` or `RemoteFault` if it has not."""
        ...


class BulkSink(Protocol):
    """Where one incoming stream goes; the sender gets new credit when ``write`` returns."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    async def finish(self) -> None:
        """All bytes are here; an exception tells the sender that they were not good."""
        ...

    def abort(self, reason: str) -> None:
        """Nothing more comes; drop what came."""
        ...


class LinkUser(Protocol):
    """What is told of one peer. ``link_up`` and ``link_down`` alternate."""

    def link_up(self, link: Link, bulk: Bulk) -> None:
        """Both connections to the peer are there."""
        ...

    def messages_received(self, messages: Sequence[ToNode | ToMaster]) -> None:
        """A batch, in the order of sending."""
        ...

    def stream_opened(self, kind: str, detail: str) -> BulkSink:
        """The peer begins a stream; `WireError` refuses it."""
        ...

    def link_down(self, reason: str) -> None:
        """The link is gone; ``reason`` is a sentence."""
        ...


Commands = Mapping[str, Callable[..., Awaitable[Any]]]
"""What a controller may ask the master, by function name; arguments and results are JSON, hence Any."""


class UploadSink(Protocol):
    """Where the body of one upload goes; ``finish`` or ``abort`` is the last that is called."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    async def finish(self) -> object:
        """All bytes are here; the JSON of the answer, or a `PydraError` that says why they are not taken."""
        ...

    def abort(self) -> None:
        """Nothing more comes; drop what came."""
        ...


OpenUpload = Callable[[str], UploadSink]
"""Begins to take a package of this name; raises a `PydraError` if it would not be taken."""

OpenPayload = Callable[[], UploadSink]
"""Begins to take the packed arguments of a submission; raises a `PydraError` if they would not be taken."""

OpenResult = Callable[[int], Awaitable[tuple[int, AsyncIterator[bytes]]]]
"""
The packed result of a task instance, by its id: its size and its bytes. `NotFound` if there is none; a
`PydraError` of the iterator, before its end, says that the bytes are not good.
"""


class Socket(Protocol):
    """A WebSocket of a client that is logged in, as its speaker sees it."""

    address: str
    """Of the client, for people."""

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now; if not, ``unblocked`` tells when, and who sends on is cut off."""
        ...

    def send(self, message: bytes | str) -> None:
        """Send a message, binary or text; once the socket is closed this does nothing."""
        ...

    def pause(self, paused: bool) -> None:
        """Deliver no more messages, and let the client feel it; or go on."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """End it with a close code of RFC 6455; ``lost`` is called, once, before this returns."""
        ...


class Speaker(Protocol):
    """What is told of one WebSocket; after ``lost`` nothing follows."""

    def received(self, message: bytes | str) -> None:
        """A whole message, binary or text."""
        ...

    def unblocked(self) -> None:
        """The client reads again."""
        ...

    def lost(self) -> None:
        """The socket is closed, by whomever."""
        ...


OpenSpeaker = Callable[[Socket], Speaker]
"""Begins to speak over a new WebSocket."""

Speakers = Mapping[str, OpenSpeaker]
"""What may be spoken over WebSockets, by the name of its subprotocol."""

InThread = Callable[..., Awaitable[Any]]
"""Calls a blocking function with these arguments in a thread; its result is the function's, hence Any."""


class Progress(msgspec.Struct, frozen=True):
    """What a running attempt told last."""

    attempt: Attempt
    percent: int = -1
    message: str | None = None


Answered = tuple[str, int, bytes, tuple[str, str, str] | None]
"""
What came of one unit: its branch and index as they were asked for, its packed result, and None or (code,
message, traceback). A plain tuple: thousands are made a second, where nothing may load ``typing``.
"""


class Units(Protocol):
    """
    Where a task gets its units run: the cluster, by way of the worker, or this process by itself.

    A branch is named here by the key of the subtask below the class of the root (``task.get_key()`` without
    its first part), whatever unit it is that asks; the path of that unit is put before it where the branch
    leaves the process. Used from the thread of ``work()`` alone. All of it raises `TaskCancelled` once the
    task was stopped.
    """

    def ask(
        self,
        branch: str,
        indexes: Sequence[int],
        args: Sequence[bytes],
        time_limit: float = 0.0,
        guarantee: int = 0,
    ) -> None:
        """
        Want units of a branch run; ``args`` is the MessagePack of the arguments of each.

        ``guarantee`` is the number of a ``pydra.model.options.Guarantee``.
        """
        ...

    def answers(self, timeout: float | None = None) -> Sequence[Answered]:
        """What came since, of all branches, in any order; waits for the first. Empty after ``timeout``."""
        ...

    def forget(self, branch: str) -> None:
        """No more answers of this branch are wanted; none comes after this."""
        ...

    def path(self, branch: str) -> str:
        """The name of a branch for people, ``3/Sub`` or ``3/Sub:7/Other``."""
        ...
