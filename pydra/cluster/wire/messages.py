# SPDX-License-Identifier: MIT
"""
Typed messages between master and node, as MessagePack.

On each new link the master says ``MasterHello`` and the node answers ``NodeHello``, which lists what it runs
and what it has finished but not seen recorded; only then work is sent. Unknown fields are ignored, so a newer
peer may add some; unknown messages are refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pydra.cluster.wire.log_records import LogRecord
from pydra.errors import WireError
from pydra.model.ids import Attempt, InstanceId, Number, PackageName, PackageVersion, TaskKey, WorkerKey
from pydra.model.instance import Failure, Payload
from pydra.model.node import NodeInformation
from pydra.model.package import NO_NEEDS, Needs

PROTOCOL = 3
"""Number of this protocol; both hellos carry it, and a link between different ones is refused in words."""

BATCH_LIMIT = 384 * 1024
"""Bytes of one batch; PB refuses values above 640 KiB, and our guard messages above 512 KiB."""

COMPLETE, FAILED, STOPPED, LOST = "complete", "failed", "stopped", "lost"
"""Outcomes of an attempt: a result; an exception; stopped when asked; its worker gone without an answer."""


class MasterHello(msgspec.Struct, frozen=True, tag="master_hello"):
    """The master greets; a node refuses an epoch lower than the highest it has seen."""

    protocol: int
    epoch: int
    version: str


class RunUnit(msgspec.Struct, frozen=True, tag="run"):
    """Run the root of an instance in a worker of its own."""

    attempt: Attempt
    instance: InstanceId
    task_key: TaskKey
    package: PackageName
    version: PackageVersion
    args: Payload
    worker: WorkerKey
    needs: Needs = NO_NEEDS
    losses: int = 0
    """Earlier attempts of it that were lost."""
    seal: bytes = b""
    """Goes with the log lines of the attempt: they are from the node that it was sent to."""
    guarantee: int = 0
    """A ``Guarantee``."""
    heard: int = 0
    """Of an exclusive one: the number of the node's latest heartbeat when it was given out."""


class HireWorker(msgspec.Struct, frozen=True, tag="hire"):
    """Begin a further worker of an instance, for units to come; it is named by an attempt of its own."""

    worker: Attempt
    instance: InstanceId
    task_key: TaskKey
    package: PackageName
    version: PackageVersion
    key: WorkerKey
    needs: Needs = NO_NEEDS
    seal: bytes = b""
    """As in ``RunUnit``; and whoever names the worker or a batch of it names this too."""


class ReleaseWorker(msgspec.Struct, frozen=True, tag="release"):
    """End a hired worker, and forget whatever it was to run; nothing is answered."""

    worker: Attempt


class RunUnits(msgspec.Struct, frozen=True, tag="run_units"):
    """
    A batch of units of one branch for a hired worker, to be run in this order after those before it.

    ``args`` are MessagePack, one for each index; the arguments of a position in ``blobs`` are that blob.
    """

    worker: Attempt
    batch: Attempt
    branch: str
    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: dict[int, Payload] = {}
    time_limit: float = 0.0
    """Seconds for each unit; 0 is no limit."""
    guarantee: int = 0
    """As in ``RunUnit``; with one, there is one unit."""
    heard: int = 0


class UnitResults(msgspec.Struct, frozen=True, tag="unit_results"):
    """Recorded results, for the worker that asked for them; by position as in ``UnitsDone``."""

    asker: Attempt
    branch: str
    indexes: list[int]
    results: list[bytes]
    failures: dict[int, Failure] = {}
    blobs: dict[int, Payload] = {}


class UnitsRecorded(msgspec.Struct, frozen=True, tag="units_recorded"):
    """The first ``count`` results of a batch are committed, or not wanted: forget them."""

    batch: Attempt
    count: int


class StopUnit(msgspec.Struct, frozen=True, tag="stop"):
    """Set the stop flag of the task."""

    attempt: Attempt


class PauseUnit(msgspec.Struct, frozen=True, tag="pause"):
    """The instance of the attempt is paused, or goes on; the time of a pause is not counted as run."""

    attempt: Attempt
    paused: bool


class KillUnit(msgspec.Struct, frozen=True, tag="kill"):
    """Kill the worker and all its processes; the answer is a ``UnitFinished``."""

    attempt: Attempt


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """The outcomes of these attempts are committed, or not wanted: forget them."""

    attempts: tuple[Attempt, ...]


class LogStored(msgspec.Struct, frozen=True, tag="log_stored"):
    """The lines of an attempt before this number are archived; if they are not wanted, none are."""

    attempt: Attempt
    lines: int
    is_wanted: bool = True


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """
    Sent by both sides every few seconds; a node names what it holds, which renews the leases.

    The master answers each one of a node, and its hello, with the number of that.
    """

    held: tuple[Attempt, ...] = ()
    number: Number = 0
    """Of a node's, counted from 1 on each link; its hello has 0."""
    answers: int | None = None
    refusal: str = ""
    """Why the node begins nothing new at the moment; empty if it does."""


class HeldWorker(msgspec.Struct, frozen=True):
    """A hired worker that a node still has."""

    worker: Attempt
    instance: InstanceId
    index: Number
    """Of its slot."""
    seal: bytes = b""
    """That of its ``HireWorker``."""


class HeldBatch(msgspec.Struct, frozen=True):
    """A batch of which a node still has units to run, or results that were not acknowledged."""

    batch: Attempt
    worker: Attempt
    instance: InstanceId
    branch: str
    indexes: list[int]
    digests: bytes
    recorded: Number = 0
    """Results that were acknowledged; those after it follow as ``UnitsDone``, as they are there."""
    seal: bytes = b""
    """That of the ``HireWorker`` of its worker."""
    is_guarded: bool = False
    """Its unit was given out with a guarantee."""


class HeldBatches(msgspec.Struct, frozen=True, tag="held_batches"):
    """Batches that have no room in the ``NodeHello`` that follows, of which they are a part."""

    batches: tuple[HeldBatch, ...]


class NodeHello(msgspec.Struct, frozen=True, tag="node_hello"):
    """The node answers; ``incarnation`` is new at each start of its daemon."""

    protocol: int
    incarnation: str
    slots: int
    information: NodeInformation
    running: tuple[Attempt, ...] = ()
    finished: tuple[Attempt, ...] = ()
    """Outcomes that were not acknowledged; their ``UnitFinished`` messages follow."""
    workers: tuple[HeldWorker, ...] = ()
    batches: tuple[HeldBatch, ...] = ()
    """Of these workers, and of such as are gone; what askers here still wait for they ask again."""
    ran_s: tuple[float, ...] = ()
    """Seconds that each of ``running`` has run, the time not counted in which its instance was paused."""
    refusal: str = ""
    """As heartbeats have it."""


class UnitFinished(msgspec.Struct, frozen=True, tag="finished"):
    """An attempt ended; sent again on each new link until it is ``Recorded``."""

    attempt: Attempt
    outcome: str
    result: Payload | None = None
    failure: Failure | None = None
    lines: Number = 0
    """Log lines that it wrote until then."""


class UnitsAsked(msgspec.Struct, frozen=True, tag="asked"):
    """
    A worker of this node asks for units; those that were asked for already are no news.

    ``asker`` is its attempt: that of a root, or of a hired worker whose unit has units of its own.
    ``digests`` are ``DIGEST_SIZE`` bytes for each index; ``blobs`` as in ``RunUnits``.
    """

    asker: Attempt
    branch: str
    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: dict[int, Payload] = {}
    time_limit: float = 0.0
    guarantee: int = 0
    """As in ``RunUnits``."""


class UnitsForgotten(msgspec.Struct, frozen=True, tag="forgotten"):
    """The asker wants no more results of this branch."""

    asker: Attempt
    branch: str


class UnitsDone(msgspec.Struct, frozen=True, tag="units_done"):
    """
    Results of a batch, from position ``start`` on, in its order; sent again on each new link until recorded.

    The result of a position (counted from ``start``) in ``failures`` is that failure, of one in ``blobs``
    that blob, which was sent before; any other is MessagePack in ``results``.
    """

    worker: Attempt
    batch: Attempt
    start: Number
    results: list[bytes]
    failures: dict[int, Failure] = {}
    blobs: dict[int, Payload] = {}
    busy_s: float = 0.0
    """Seconds that the worker spent on them."""


class WorkerLost(msgspec.Struct, frozen=True, tag="worker_lost"):
    """A hired worker ended unasked; of its first batch, the first unit without a result was running."""

    worker: Attempt
    failure: Failure


class UnitProgress(msgspec.Struct, frozen=True, tag="progress"):
    """Progress of a running attempt: 0 to 100, or -1 for unknown."""

    attempt: Attempt
    instance: InstanceId
    percent: int
    message: str | None = None


class UnitLog(msgspec.Struct, frozen=True, tag="log"):
    """Lines that a task wrote; sent again on each new link until they are ``LogStored``."""

    instance: InstanceId
    seal: bytes
    record: LogRecord


class PackageWanted(msgspec.Struct, frozen=True, tag="package_wanted"):
    """The node lacks this version; the master opens a bulk stream ``package`` to it."""

    package: PackageName
    version: PackageVersion


class BlobWanted(msgspec.Struct, frozen=True, tag="blob_wanted"):
    """The node lacks this payload; the master opens a bulk stream ``blob`` to it."""

    sha256: str


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable"):
    """The master cannot send what a node wanted: ``name`` is ``package/version``, or the digest of a blob."""

    name: str
    reason: str


ToNode = (
    MasterHello
    | RunUnit
    | HireWorker
    | ReleaseWorker
    | RunUnits
    | UnitResults
    | UnitsRecorded
    | StopUnit
    | PauseUnit
    | KillUnit
    | Recorded
    | LogStored
    | Heartbeat
    | Unavailable
)
ToMaster = (
    HeldBatches
    | NodeHello
    | UnitsAsked
    | UnitsForgotten
    | UnitsDone
    | WorkerLost
    | UnitFinished
    | UnitProgress
    | UnitLog
    | PackageWanted
    | BlobWanted
    | Heartbeat
)

_encoder = msgspec.msgpack.Encoder()
_to_node = msgspec.msgpack.Decoder(list[ToNode])
_to_master = msgspec.msgpack.Decoder(list[ToMaster])


def encode(message: ToNode | ToMaster) -> bytes:
    """The MessagePack of one message."""
    return _encoder.encode(message)


def batches(encoded: Sequence[bytes], limit: int = BATCH_LIMIT) -> list[bytes]:
    """Encoded messages joined, in their order, into as few batches of at most ``limit`` bytes as possible."""
    made: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for message in encoded:
        if len(message) > limit:
            raise WireError(f"A message of {len(message)} bytes is too large to send; the limit is {limit}.")
        if group and size + len(message) > limit:
            made.append(_array(group))
            group, size = [], 0
        group.append(message)
        size += len(message)
    if group:
        made.append(_array(group))
    return made


def _array(group: list[bytes]) -> bytes:
    """A MessagePack array (32-bit length form) of items that are encoded already."""
    return b"\xdd" + len(group).to_bytes(4, "big") + b"".join(group)


def decode_to_node(batch: bytes) -> list[ToNode]:
    """What a master sent; `WireError` if it is not that."""
    try:
        return _to_node.decode(batch)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise WireError(f"This is no batch from a master: {fault}") from None


def decode_to_master(batch: bytes) -> list[ToMaster]:
    """What a node sent; `WireError` if it is not that."""
    try:
        return _to_master.decode(batch)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise WireError(f"This is no batch from a node: {fault}") from None
