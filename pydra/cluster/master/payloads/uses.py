# SPDX-License-Identifier: MIT
"""
Which blobs are only the arguments of units, and go when the last of these units is recorded.

Whatever is named by a row of the store stays for good, so a blob is removed only if nothing that is stored
was ever seen to name it, no unit waits with it, and it is not on its way here. What is left over after a
crash goes with the sweep at the next start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.model.ids import InstanceId
from pydra.model.instance import Payload


class BlobUses:
    """Counts the uses of blobs that ``remove`` may remove; ``kept`` are the names that the store has."""

    log = Logger()

    def __init__(self, remove: Callable[[str], Awaitable[object]], kept: Iterable[str] = ()) -> None:
        self._remove_blob = remove
        self._kept = set(kept)
        self._uses: Counter[str] = Counter()
        self._units: dict[InstanceId, dict[tuple[str, int], str]] = {}
        self._removing: dict[str, list[Deferred[None]]] = {}

    def keep(self, sha256: str) -> None:
        """Something that is stored, or is to be, names this blob: it is never removed."""
        self._kept.add(sha256)

    async def hold(self, sha256: str) -> None:
        """This blob comes, or came, and nothing names it yet; returns when it may be written."""
        self._uses[sha256] += 1
        if sha256 in self._removing:
            removed: Deferred[None] = Deferred()
            self._removing[sha256].append(removed)
            await removed

    def let_go(self, sha256: str) -> None:
        """It is not held any more."""
        self._uses[sha256] -= 1
        if not self._uses[sha256]:
            del self._uses[sha256]
            if sha256 not in self._kept:
                self._remove(sha256)

    def take(
        self, instance: InstanceId, branch: str, indexes: Sequence[int], blobs: Mapping[int, Payload]
    ) -> None:
        """Units wait, or run, with these blobs as their arguments, by position."""
        for position, blob in blobs.items():
            units = self._units.setdefault(instance, {})
            before = units.get((branch, indexes[position]))
            if before != blob.sha256:
                units[branch, indexes[position]] = blob.sha256
                self._uses[blob.sha256] += 1
                if before is not None:
                    self.let_go(before)

    def release(self, instance: InstanceId, branch: str, indexes: Collection[int]) -> None:
        """These units are recorded."""
        units = self._units.get(instance)
        if units:
            for index in indexes:
                if (sha256 := units.pop((branch, index), None)) is not None:
                    self.let_go(sha256)

    def end(self, instance: InstanceId) -> None:
        """The instance is final."""
        for sha256 in self._units.pop(instance, {}).values():
            self.let_go(sha256)

    def _remove(self, sha256: str) -> None:
        waiting = self._removing.setdefault(sha256, [])
        removed = Deferred.fromCoroutine(self._removed(sha256))
        removed.addErrback(lambda fault: self.log.failure("The blob {name} stays", fault, name=sha256))

        def go_on(_: object) -> None:
            del self._removing[sha256]
            for each in waiting:
                each.callback(None)

        removed.addCallback(go_on)

    async def _removed(self, sha256: str) -> None:
        await self._remove_blob(sha256)
