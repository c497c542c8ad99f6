# SPDX-License-Identifier: MIT
"""The versions of packages that this node has, how missing ones come, and how old ones go."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from pydra.cluster.interfaces import BulkSink, InThread
from pydra.cluster.node.arrivals import Arrivals
from pydra.cluster.node.bounded_cache import BoundedCache
from pydra.cluster.node.spool import Spool
from pydra.cluster.packages.archive import Unpacker
from pydra.cluster.packages.environment import environment_key
from pydra.cluster.packages.repository import Repository
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.wire import frames, payload
from pydra.cluster.wire.messages import BlobWanted, HireWorker, PackageWanted, RunUnit, ToMaster
from pydra.errors import LoadError, PydraError, StoreError, WireError
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.instance import Payload

MEMORY_LIMIT = frames.ANSWER_LIMIT
"""Bytes of arguments that are held in memory; more of them go to a file."""

T = TypeVar("T")


Version = tuple[PackageName, PackageVersion]


class PackageCache:
    """
    Asks the master for versions that are missing and unpacks them as they come, once each.

    ``limit`` bytes of versions are kept beyond what is in use; those that were used last.
    """

    log = Logger()

    def __init__(
        self,
        repository: Repository,
        in_thread: InThread,
        ask: Callable[[ToMaster], bool],
        limit: int,
        environments: Environments,
    ) -> None:
        self._environments = environments
        self._installed: Counter[str] = Counter()
        """How many units need each environment."""
        self._repository = repository
        self._in_thread = in_thread
        self._versions: BoundedCache[Version] = BoundedCache(limit)
        self._turn = DeferredLock()
        """Of looking whether a version is there, and of removing one."""
        self._arrivals: Arrivals[None] = Arrivals(ask)

    async def load(self) -> None:
        """Find what an earlier daemon has kept; called once, before anything else."""
        for package, version, size in await self._in_thread(self._repository.everything):
            self._versions.add((package, version), size)
        self._shrink()

    async def fetch(self, unit: RunUnit | HireWorker) -> None:
        """
        Return when all that the unit needs is here, to stay until it is released.

        That is its package version, those of its dependencies, and what pip installs for them.

        `LoadError` if the master cannot send one, or pip cannot install one.
        """
        requirements = unit.needs.requirements
        if requirements:
            self._installed[environment_key(requirements)] += 1
        for version in _versions(unit):
            self._versions.hold(version)
        for version in _versions(unit):
            if version not in self._versions:
                await self._fetch(version)
            self._versions.touch(version)
        await self._environments.ensure(requirements, lambda: self._installed)

    def release(self, unit: RunUnit | HireWorker) -> None:
        """A unit for which ``fetch`` was called has ended."""
        for version in _versions(unit):
            self._versions.release(version)
        if unit.needs.requirements:
            self._installed -= Counter([environment_key(unit.needs.requirements)])
        self._shrink()

    async def _fetch(self, version: Version) -> None:
        if not await self._find(version):
            # The same files under two names are one version, and still two packages.
            await self._arrivals.wait("/".join(version), PackageWanted(*version))
            await self._find(version)
        self._shrink()

    async def _find(self, version: Version) -> bool:
        """Whether it is on the disk; then it is in the record."""
        await self._turn.acquire()
        try:
            is_here: bool = await self._in_thread(self._repository.has, *version)
            if is_here:
                self._versions.add(version, await self._in_thread(self._repository.size, *version))
        finally:
            self._turn.release()
        return is_here

    def _shrink(self) -> None:
        given_up = self._versions.give_up()
        if given_up:
            removed = Deferred.fromCoroutine(self._remove(given_up))
            removed.addErrback(lambda fault: self.log.failure("Package versions were not removed", fault))

    async def _remove(self, versions: list[Version]) -> None:
        for version in versions:
            await self._turn.acquire()
            try:
                # Somebody may have come to need it while others were removed.
                if not self._versions.is_needed(version):
                    await self._in_thread(self._repository.remove, *version)
            finally:
                self._turn.release()

    def sink(self, detail: str) -> BulkSink:
        """Where a stream named ``package/version`` goes; `WireError` if nobody asked for it."""
        if not self._arrivals.is_awaited(detail):
            raise WireError("This package was not asked for.")
        package, _, version = detail.partition("/")
        return _PackageSink(self, PackageName(package), PackageVersion(version))

    def unavailable(self, name: str, reason: str) -> None:
        """The version of this name, ``package/version``, will not come."""
        self._arrivals.failed(name, LoadError(reason))

    def unkept(self, name: str, fault: OSError) -> None:
        """It cannot be kept here: another node may have room, so that is no fault of the package."""
        self._arrivals.failed(name, StoreError(f"The package cannot be kept here: {fault.strerror}."))

    def ask_again(self) -> None:
        """There is a new link."""
        self._arrivals.ask_again()

    def open_unpacker(self, package: PackageName, version: PackageVersion) -> Awaitable[Unpacker]:
        """A fresh unpacker into the repository."""
        return self._in_thread(Unpacker, self._repository.root, package, version)

    async def in_thread(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a step of an unpacker in a thread."""
        await self._in_thread(function, *arguments)

    def arrived(self, name: str) -> None:
        """A version was unpacked and verified."""
        self._arrivals.arrived(name, None)


def _versions(unit: RunUnit | HireWorker) -> tuple[Version, ...]:
    return ((unit.package, unit.version), *unit.needs.dependencies)


class _PackageSink:
    """
    Feeds one stream into an unpacker; a version that is not what it says is refused and asked for no more.
    """

    log = Logger()

    def __init__(self, cache: PackageCache, package: PackageName, version: PackageVersion) -> None:
        self._cache = cache
        self._package = package
        self._version = version
        self._name = f"{package}/{version}"
        self._unpacker: Unpacker | None = None

    async def write(self, data: bytes) -> None:
        """Unpack the next bytes."""
        unpacker = await self._opened()
        await self._guarded(self._cache.in_thread(unpacker.write, data))

    async def finish(self) -> None:
        """Verify and move into place."""
        unpacker = await self._opened()
        await self._guarded(self._cache.in_thread(unpacker.finish))
        self._cache.arrived(self._name)

    def abort(self, reason: str) -> None:
        """The stream broke off; the next link asks again."""
        if self._unpacker is not None:
            aborted = Deferred.fromCoroutine(self._cache.in_thread(self._unpacker.abort))
            aborted.addErrback(lambda fault: self.log.failure("A package was not cleared away", fault))

    async def _opened(self) -> Unpacker:
        if self._unpacker is None:
            self._unpacker = await self._guarded(self._cache.open_unpacker(self._package, self._version))
        return self._unpacker

    async def _guarded(self, step: Awaitable[T]) -> T:
        try:
            return await step
        except OSError as fault:
            self._cache.unkept(self._name, fault)
            raise WireError("The package cannot be kept here.") from fault
        except Exception as fault:
            # Whatever it was: those who wait for it are told, and the sender too.
            self._cache.unavailable(self._name, f"The package could not be unpacked here: {fault}")
            raise


class ArgumentCache:
    """
    Arguments that are too large to travel inline; each is forgotten once it was handed out.

    What is too large for memory goes to what ``make_spool`` makes, from where it can be read as it comes.
    """

    log = Logger()

    def __init__(self, ask: Callable[[ToMaster], bool], make_spool: Callable[[], Spool]) -> None:
        self._arrivals: Arrivals[bytes | Spool] = Arrivals(ask)
        self._make_spool = make_spool
        self._coming: dict[str, Spool] = {}
        """Where large ones go that are waited for, whichever link brings them."""

    async def fetch(self, wanted: Payload) -> bytes:
        """The bytes of a payload that fits into memory; `LoadError` if it does not, or cannot be had."""
        data = await self._wait(wanted.sha256) if wanted.sha256 else wanted.inline
        if isinstance(data, Spool):
            raise LoadError(f"Arguments or a result of a unit above {MEMORY_LIMIT} bytes are refused.")
        return data

    async def open(self, wanted: Payload) -> bytes | Spool:
        """The bytes of a payload, or where they come; `LoadError` if they cannot be had, also from there."""
        if not wanted.sha256:
            return wanted.inline
        if wanted.size <= MEMORY_LIMIT:
            return await self._wait(wanted.sha256)
        if (spool := self._coming.get(wanted.sha256)) is None:
            spool = self._coming[wanted.sha256] = self._make_spool()
            come = Deferred.fromCoroutine(self._come(wanted.sha256, spool))
            come.addErrback(lambda fault: self.log.failure("Arguments were lost sight of", fault))
        return spool

    async def _come(self, digest: str, spool: Spool) -> None:
        try:
            if await self._wait(digest) is not spool:
                raise LoadError("The arguments came another way than they were told of.")
        except PydraError as fault:
            spool.end(fault)
        finally:
            del self._coming[digest]

    async def _wait(self, digest: str) -> bytes | Spool:
        return await self._arrivals.wait(digest, BlobWanted(digest))

    def sink(self, detail: str) -> BulkSink:
        """Where a stream named by its digest goes; `WireError` if nobody asked for it."""
        if not self._arrivals.is_awaited(detail):
            raise WireError("These arguments were not asked for.")
        return _ArgumentSink(self._arrivals, detail, self._make_spool, self._coming.get(detail))

    def unavailable(self, digest: str, reason: str) -> None:
        """The master cannot send it."""
        self._arrivals.failed(digest, LoadError(reason))

    def ask_again(self) -> None:
        """There is a new link."""
        self._arrivals.ask_again()


class _ArgumentSink:
    """
    Takes the bytes of one stream.

    What an earlier link brought of them is not taken twice: it is hashed, and readers may have it already.
    """

    def __init__(
        self,
        arrivals: Arrivals[bytes | Spool],
        digest: str,
        make_spool: Callable[[], Spool],
        begun: Spool | None,
    ) -> None:
        self._arrivals = arrivals
        self._digest = digest
        self._make_spool = make_spool
        self._data = bytearray()
        self._hash = hashlib.sha256()
        self._spool = begun
        self._had = begun.size if begun is not None else 0

    async def write(self, data: bytes) -> None:
        if self._had:
            had = min(self._had, len(data))
            self._had -= had
            data = data[had:]
        if self._spool is None and len(self._data) + len(data) <= MEMORY_LIMIT:
            self._data += data
            self._hash.update(data)
            return
        spool = self._spool = self._spool or self._make_spool()
        whole, self._data = bytes(self._data) + data if self._data else data, bytearray()
        if spool.size + len(whole) > payload.SIZE_LIMIT:
            self._refuse(f"Arguments above {payload.SIZE_LIMIT} bytes are refused.")
        try:
            await spool.write(whole)
        except OSError as fault:
            # Another node may have room: for those who wait it is no fault of the arguments.
            reason = f"The arguments cannot be kept here: {fault.strerror}."
            self._arrivals.failed(self._digest, StoreError(reason))
            raise WireError(reason) from None

    async def finish(self) -> None:
        spool = self._spool
        digest = self._hash.hexdigest() if spool is None else spool.digest
        if digest != self._digest:
            self._refuse("The arguments are not what their digest says.")
        if spool is None:
            self._arrivals.arrived(self._digest, bytes(self._data))
        else:
            spool.end()
            self._arrivals.arrived(self._digest, spool)

    def abort(self, reason: str) -> None:
        self._data.clear()
        self._spool = None

    def _refuse(self, reason: str) -> NoReturn:
        """They would be the same at another try: those who wait for them are told, and the sender too."""
        self._arrivals.failed(self._digest, LoadError(reason))
        raise WireError(reason)
