# SPDX-License-Identifier: MIT
"""
Units that the running task asks for, and what comes of them.

They go out as ASK frames and come back as RESULTS, which the thread that reads the channel hands over whole:
one handover for a frame, however many units are in it.
"""

from __future__ import annotations

from _blake2 import blake2b  # hashlib would load OpenSSL
from _queue import Empty, SimpleQueue
from itertools import repeat
from time import monotonic

from pydra.cluster.wire.frames import ANSWER_LIMIT, ASK, FORGET, PART, in_parts
from pydra.errors import LimitExceeded, TaskCancelled, TaskError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydra.cluster.interfaces import Answered
    from pydra.cluster.worker.channel import Channel
    from pydra.cluster.worker.surroundings import Place

DIGEST_SIZE = 16
"""As in ``pydra.model.unit``, which a worker does not load; and so is the next."""

BRANCH_LIMIT = 1024

FRAME_UNITS = 1024
"""Units in one ASK."""

FRAME_SIZE = 256 * 1024
"""Bytes of arguments in one ASK, unless those of a single unit are more."""


class AskedBranch:
    """Units of one branch that were asked for."""

    __slots__ = ("first", "key", "next", "outstanding")

    def __init__(self, key: str, first: int) -> None:
        self.key = key
        self.first = first
        """Added to each index, so that what was forgotten cannot come back under the same one."""
        self.next = first
        """Higher than all that were asked for."""
        self.outstanding: set[int] = set()


class AskedUnits:
    """
    The ``Units`` of a task in a worker.

    All of it is used by the thread that runs the task, but ``received`` and ``stop``.
    """

    def __init__(self, channel: Channel, place: Place) -> None:
        self._channel = channel
        self._place = place
        self.branches: dict[str, AskedBranch] = {}
        """By their names on the wire; none if the running task did not ask."""
        self._forgotten: dict[str, int] = {}
        self._received: SimpleQueue[list[object] | None] = SimpleQueue()
        self._is_stopped = False
        self.waits: Callable[[], None] = lambda: None
        """Called before the thread that runs the task waits for answers."""

    # Of ``Units``.

    def ask(
        self,
        branch: str,
        indexes: Sequence[int],
        args: Sequence[bytes],
        time_limit: float = 0.0,
        guarantee: int = 0,
    ) -> None:
        """Send them, in as many frames as that takes; `LimitExceeded` if one is too large."""
        self._check()
        name = self._place.branch_of(branch)
        asked = self.branches.get(name) or self._begun(name, branch)
        numbers = [index + asked.first for index in indexes] if asked.first else list(indexes)
        digests = [blake2b(one, digest_size=DIGEST_SIZE).digest() for one in args]
        for start, end in _pieces(args):
            parts: list[list[object]] = []
            sent = list(args[start:end])
            if len(sent) == 1:
                if len(sent[0]) > ANSWER_LIMIT:
                    raise LimitExceeded(_too_large(branch, indexes[start], len(sent[0])))
                parts, sent[0] = in_parts(PART, sent[0])
            asked.outstanding.update(numbers[start:end])
            asked.next = max(asked.next, max(numbers[start:end]) + 1)
            frame = [ASK, name, numbers[start:end], sent, b"".join(digests[start:end]), time_limit]
            if guarantee:
                frame.append(guarantee)
            self._channel.send(*parts, frame)

    def answers(self, timeout: float | None = None) -> list[Answered]:
        """All that is here, or the first that comes."""
        self._check()
        until = None if timeout is None else monotonic() + timeout
        answered: list[Answered] = []
        if self._received.empty():
            self.waits()
        while not answered:
            try:
                frame = self._received.get(timeout=None if until is None else max(0.0, until - monotonic()))
            except Empty:
                break
            self._check()
            assert frame is not None
            answered = self._taken(frame)
        while not self._received.empty():
            if (frame := self._received.get()) is not None:
                answered += self._taken(frame)
        return answered

    def forget(self, branch: str) -> None:
        """Drop what is still to come."""
        self._check()
        self._forget(self._place.branch_of(branch))

    def path(self, branch: str) -> str:
        """Its name for people."""
        return f"{self._place.instance}/{self._place.branch_of(branch)}"

    # Of the worker.

    def end(self) -> None:
        """The unit that asked has ended; whatever it still waits for is not wanted."""
        for name in list(self.branches):
            self._forget(name)
        self._forgotten.clear()

    def received(self, frame: list[object]) -> None:
        """A RESULTS frame has come."""
        self._received.put(frame)

    def stop(self) -> None:
        """The task was stopped; if it waits for answers, it waits no longer."""
        self._is_stopped = True
        self._received.put(None)

    def _check(self) -> None:
        if self._is_stopped:
            raise TaskCancelled("The task was stopped.")

    def _begun(self, name: str, key: str) -> AskedBranch:
        if len(name) > BRANCH_LIMIT:
            raise TaskError(f"The path of {key} is {len(name)} characters long; the limit is {BRANCH_LIMIT}.")
        asked = self.branches[name] = AskedBranch(key, self._forgotten.pop(name, 0))
        return asked

    def _forget(self, name: str) -> None:
        asked = self.branches.pop(name, None)
        if asked is not None and asked.outstanding:
            self._forgotten[name] = asked.next
            self._channel.send([FORGET, name])

    def _taken(self, frame: list[object]) -> list[Answered]:
        """What a frame answers of what is still wanted."""
        _, name, indexes, results, failures = frame
        asked = self.branches.get(name)  # type: ignore[call-overload]  # all of it is from the daemon
        if asked is None:
            return []
        assert isinstance(indexes, list)
        assert isinstance(results, list)
        assert isinstance(failures, dict)
        told: list[tuple[str, str, str] | None] = [None] * len(indexes)
        for position, failure in failures.items():
            told[position] = tuple(failure)
        if not asked.outstanding.issuperset(indexes):
            wanted = [place for place, index in enumerate(indexes) if index in asked.outstanding]
            indexes = [indexes[place] for place in wanted]
            results = [results[place] for place in wanted]
            told = [told[place] for place in wanted]
        asked.outstanding.difference_update(indexes)
        if asked.first:
            indexes = [index - asked.first for index in indexes]
        return list(zip(repeat(asked.key, len(indexes)), indexes, results, told, strict=True))


def _pieces(args: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where to cut a row of arguments into frames."""
    start = size = 0
    for place, one in enumerate(args):
        size += len(one)
        if place > start and (size > FRAME_SIZE or place - start >= FRAME_UNITS):
            yield start, place
            start, size = place, len(one)
    if args:
        yield start, len(args)


def _too_large(branch: str, index: int, size: int) -> str:
    limit = ANSWER_LIMIT // 2**20
    return f"The arguments of {branch}:{index} are {size / 2**20:.1f} MiB packed; the limit is {limit} MiB."
