# SPDX-License-Identifier: MIT
"""
Units that workers of this node asked for, until they have the results.

A worker is not trusted: what it asks for is checked and bounded. What is outstanding is asked again on each
new link; the master ignores what it has.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from struct import iter_unpack
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pydra.cluster.node.delivery import Blob, Delivery, chunks_of
from pydra.cluster.node.groups import groups
from pydra.cluster.wire import frames
from pydra.cluster.wire.messages import UnitResults, UnitsAsked, UnitsForgotten
from pydra.errors import PydraError, WireError
from pydra.model.ids import Attempt
from pydra.model.instance import INLINE_LIMIT, Failure, Payload
from pydra.model.options import Guarantee
from pydra.model.unit import BRANCH_LIMIT, DIGEST_SIZE, INDEX_LIMIT, OUTSTANDING_BYTES, OUTSTANDING_LIMIT

ALL_GUARANTEES = int(Guarantee.ONCE | Guarantee.EXCLUSIVE)

BACKLOG_LIMIT = 8 * 1024 * 1024
"""Bytes of results that may wait for a worker to read them; more wait here."""

LOOK_S = 0.02
"""Seconds after which is looked whether a worker has caught up."""

FORGOTTEN_LIMIT = 1000
"""Branches that one worker may have forgotten while there is no master to tell."""

_TOO_MUCH = (
    f"The worker asked for more than {OUTSTANDING_LIMIT} units, or {OUTSTANDING_BYTES // 2**20} MiB of "
    "arguments, before it had results."
)

UNIT_SIZE = 32
"""Bytes of a unit that is asked for, besides its arguments, at most."""

Send = Callable[[list[object]], None]


@attrs.define(eq=False)
class _Branch:
    """What is outstanding of one branch, by index."""

    time_limit: float
    guarantee: int
    args: dict[int, bytes] = attrs.Factory(dict)
    digests: dict[int, tuple[bytes]] = attrs.Factory(dict)
    names: dict[int, str] = attrs.Factory(dict)
    """The SHA-256 of arguments that are too large to travel inline, which a new link asks for again."""
    arriving: set[int] = attrs.Factory(set)
    """Those whose result is being fetched."""


class Asker:
    """What one worker asked for. Its faults are a `WireError`."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        attempt: Attempt,
        send: Send,
        backlog: Callable[[], int],
        may_ask: Callable[[str], bool],
        delivery: Delivery,
        fetch_blob: Callable[[Payload], Awaitable[bytes]],
    ) -> None:
        self._clock = clock
        self._attempt = attempt
        self._send = send
        self._backlog = backlog
        self._may_ask = may_ask
        self._delivery = delivery
        self._fetch_blob = fetch_blob
        self._branches: dict[str, _Branch] = {}
        self._count = 0
        self._bytes = 0
        self._forgotten: dict[str, None] = {}
        """Branches that the master was not told to forget."""
        self._arriving: deque[tuple[str, int, Payload]] = deque()
        """Large results to be fetched, one after the other."""
        self._is_fetching = False
        self._waiting: deque[UnitResults] = deque()
        """Results that the worker has no room for."""
        self._look: IDelayedCall | None = None

    def asked(self, frame: Sequence[object], parts: bytes) -> None:
        """The worker sent an ASK, after these parts."""
        match frame:
            case [
                frames.ASK,
                str() as branch,
                list() as said,
                list() as packed,
                bytes() as digests,
                limit,
                *promised,
            ]:
                time_limit, guarantee = _time_limit(limit), _guarantee(promised)
            case _:
                raise WireError("The worker sent an ASK of another form.")
        if parts:
            if len(packed) != 1 or type(packed[0]) is not bytes:
                raise WireError("The worker asked for several units with parts of arguments.")
            packed = [parts + packed[0]]
        indexes, args = _checked(branch, said, packed, digests)
        if not self._may_ask(branch):
            raise WireError("The worker asked for units of a unit that it does not run.")
        held = self._branches.get(branch)
        if held is None:
            held = _Branch(time_limit, guarantee)
        elif not held.args.keys().isdisjoint(indexes):
            raise WireError("The worker asked for a unit again before it had the result.")
        self._count += len(indexes)
        self._bytes += sum(map(len, args))
        if self._count > OUTSTANDING_LIMIT or self._bytes > OUTSTANDING_BYTES:
            raise WireError(_TOO_MUCH)
        self._branches[branch] = held
        held.time_limit = time_limit
        # What was promised of one of them is promised of all: those of a branch are of one class.
        held.guarantee |= guarantee
        held.args.update(zip(indexes, args, strict=True))
        held.digests.update(zip(indexes, iter_unpack(f"{DIGEST_SIZE}s", digests), strict=True))
        self._tell(branch, held, indexes, args, digests)

    def forgot(self, frame: Sequence[object]) -> None:
        """The worker sent a FORGET."""
        match frame:
            case [frames.FORGET, str() as branch]:
                held = self._branches.pop(branch, None)
            case _:
                raise WireError("The worker sent a FORGET of another form.")
        if held is None:
            return
        self._count -= len(held.args)
        self._bytes -= sum(map(len, held.args.values()))
        if not self._delivery.send(self._attempt, UnitsForgotten(self._attempt, branch)):
            self._forgotten[branch] = None
            if len(self._forgotten) > FORGOTTEN_LIMIT:
                raise WireError("The worker asks for units and forgets them again and again.")

    def results(self, message: UnitResults) -> None:
        """The master gives results; a worker that is behind gets them when it has caught up."""
        if self._waiting or self._backlog() > BACKLOG_LIMIT:
            self._waiting.append(message)
            self._look_later()
        else:
            self._take(message)

    def _look_later(self) -> None:
        if self._look is None:
            self._look = self._clock.callLater(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        while self._waiting and self._backlog() <= BACKLOG_LIMIT:
            self._take(self._waiting.popleft())
        if self._waiting:
            self._look_later()

    def _take(self, message: UnitResults) -> None:
        """Give results; what nobody waits for is dropped."""
        held = self._branches.get(message.branch)
        if held is None:
            return
        if message.blobs:
            self._results_with_blobs(held, message)
            return
        indexes, results, failures = message.indexes, message.results, message.failures
        if not held.args.keys() >= set(indexes):
            wanted = [number for number, index in enumerate(indexes) if index in held.args]
            failures = {place: failures[number] for place, number in enumerate(wanted) if number in failures}
            indexes, results = [indexes[number] for number in wanted], [results[number] for number in wanted]
        self._give(message.branch, held, indexes, results, failures)

    def ask_again(self) -> None:
        """There is a new link; what waits for the worker comes again."""
        self._waiting.clear()
        forgotten, self._forgotten = self._forgotten, {}
        for branch in forgotten:
            self._delivery.send(self._attempt, UnitsForgotten(self._attempt, branch))
        for branch, held in self._branches.items():
            indexes = list(held.args)
            digests = b"".join(digest for (digest,) in map(held.digests.__getitem__, indexes))
            self._tell(branch, held, indexes, list(held.args.values()), digests)

    def close(self) -> None:
        """The worker is gone."""
        self._branches.clear()
        self._arriving.clear()
        self._waiting.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _tell(
        self, branch: str, held: _Branch, indexes: list[int], args: list[bytes], digests: bytes
    ) -> None:
        """Ask the master, in messages of a size that travels; large arguments go before."""
        sizes = list(map(len, args))
        names = self._branches[branch].names
        has_large = max(sizes) > INLINE_LIMIT
        if has_large:
            sizes = [min(size, INLINE_LIMIT) for size in sizes]
        for start, end in groups(sizes, UNIT_SIZE):
            blobs: dict[int, Payload] = {}
            sources: dict[str, Blob] = {}
            group = args[start:end]
            for place, arg in enumerate(group) if has_large else ():
                if len(arg) > INLINE_LIMIT:
                    index = indexes[start + place]
                    name = names[index] = names.get(index) or hashlib.sha256(arg).hexdigest()
                    blobs[place] = Payload(len(arg), sha256=name)
                    sources[name] = Blob(name, functools.partial(chunks_of, arg))
                    group[place] = b""
            part = digests[start * DIGEST_SIZE : end * DIGEST_SIZE]
            about = (held.time_limit, held.guarantee)
            message = UnitsAsked(self._attempt, branch, indexes[start:end], group, part, blobs, *about)
            self._delivery.send(self._attempt, message, tuple(sources.values()))

    def _give(
        self,
        branch: str,
        held: _Branch,
        indexes: list[int],
        results: list[bytes],
        failures: dict[int, Failure],
    ) -> None:
        """Results of units that are outstanding go to the worker, and are so no more."""
        if not indexes:
            return
        told = {
            place: [failure.code, failure.message, failure.traceback] for place, failure in failures.items()
        }
        self._send([frames.RESULTS, branch, indexes, results, told])
        self._count -= len(indexes)
        self._bytes -= sum(map(len, map(held.args.pop, indexes)))
        if held.names:
            for index in indexes:
                held.names.pop(index, None)
        deque(map(held.digests.pop, indexes), 0)
        if not held.args:
            self._branches.pop(branch, None)

    # Large results.

    def _results_with_blobs(self, held: _Branch, message: UnitResults) -> None:
        inline: list[int] = []
        for place, index in enumerate(message.indexes):
            if index not in held.args:
                continue
            if place not in message.blobs:
                inline.append(place)
            elif index not in held.arriving:
                held.arriving.add(index)
                self._arriving.append((message.branch, index, message.blobs[place]))
        indexes, results = [message.indexes[place] for place in inline], [message.results[i] for i in inline]
        failures = {new: message.failures[old] for new, old in enumerate(inline) if old in message.failures}
        self._give(message.branch, held, indexes, results, failures)
        if self._arriving and not self._is_fetching:
            self._is_fetching = True
            fetched = Deferred.fromCoroutine(self._fetch())
            fetched.addErrback(lambda fault: self.log.failure("Results could not be given", fault))

    async def _fetch(self) -> None:
        try:
            while self._arriving:
                while self._backlog() > BACKLOG_LIMIT and self._arriving:
                    await deferLater(self._clock, LOOK_S)
                if not self._arriving:
                    return
                branch, index, payload = self._arriving.popleft()
                failures: dict[int, Failure] = {}
                try:
                    result = await self._fetch_blob(payload)
                except PydraError as fault:
                    result, failures = b"", {0: Failure(fault.code, str(fault))}
                held = self._branches.get(branch)
                if held is None or index not in held.arriving:
                    continue
                held.arriving.discard(index)
                if index not in held.args:
                    continue
                parts, rest = frames.in_parts(frames.MORE, result)
                for part in parts:
                    self._send(part)
                self._give(branch, held, [index], [rest], failures)
        finally:
            self._is_fetching = False


class Askers:
    """The workers of this node that ask for units, by attempt."""

    def __init__(
        self, clock: IReactorTime, delivery: Delivery, fetch_blob: Callable[[Payload], Awaitable[bytes]]
    ) -> None:
        self._clock = clock
        self._delivery = delivery
        self._fetch_blob = fetch_blob
        self._askers: dict[Attempt, Asker] = {}

    def open(
        self, attempt: Attempt, send: Send, backlog: Callable[[], int], may_ask: Callable[[str], bool]
    ) -> Asker:
        """
        A worker that may ask; ``send`` sends it a frame, ``backlog`` are bytes that it has not read.

        ``may_ask`` says whether units of a branch are its own to ask for: somebody else may wait for others.
        """
        asker = Asker(self._clock, attempt, send, backlog, may_ask, self._delivery, self._fetch_blob)
        self._askers[attempt] = asker
        return asker

    def close(self, attempt: Attempt) -> None:
        """It is gone."""
        asker = self._askers.pop(attempt, None)
        if asker is not None:
            asker.close()

    def results(self, message: UnitResults) -> None:
        """The master gives results; those for a worker that is gone are dropped."""
        asker = self._askers.get(message.asker)
        if asker is not None:
            asker.results(message)

    def ask_again(self) -> None:
        """There is a new link to the master."""
        for asker in self._askers.values():
            asker.ask_again()


def _checked(
    branch: str, indexes: list[Any], args: list[Any], digests: bytes
) -> tuple[list[int], list[bytes]]:
    """Indexes and arguments, which may be anything before; `WireError` if these are no units."""
    count = len(indexes)
    if not branch or len(branch) > BRANCH_LIMIT or not branch.isprintable():
        raise WireError("The worker asked for units of a branch that has no such name.")
    if not count or len(args) != count or len(digests) != count * DIGEST_SIZE:
        raise WireError("The worker asked for units in columns of different lengths.")
    if set(map(type, indexes)) != {int} or set(map(type, args)) != {bytes}:
        raise WireError("The worker asked for units with columns of other types.")
    if min(indexes) < 0 or max(indexes) > INDEX_LIMIT:
        raise WireError("The worker asked for a unit with an index that is none.")
    if len(set(indexes)) != count:
        raise WireError("The worker asked for a unit twice.")
    return indexes, args


def _guarantee(promised: list[object]) -> int:
    match promised:
        case []:
            return 0
        case [int() as guarantee] if 0 <= guarantee <= ALL_GUARANTEES:
            return int(guarantee)
    raise WireError("The worker asked for units with a guarantee that there is not.")


def _time_limit(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and math.isfinite(value):
        return float(value)
    raise WireError("The worker asked for units with a time limit that is none.")
