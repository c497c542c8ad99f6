# SPDX-License-Identifier: MIT
"""The versions of packages that this node has, and how missing ones come."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import BulkSink, InThread
from pydra.cluster.node.arrivals import Arrivals
from pydra.cluster.packages.archive import Unpacker
from pydra.cluster.packages.repository import Repository
from pydra.cluster.wire.messages import BlobWanted, PackageWanted, RunUnit, ToMaster
from pydra.errors import LoadError, WireError
from pydra.model.ids import PackageName, PackageVersion
from pydra.model.instance import Payload

ARGUMENTS_LIMIT = 8 * 1024 * 1024
"""Bytes of arguments that are taken by bulk; the API takes less."""

T = TypeVar("T")


class PackageCache:
    """Asks the master for versions that are missing and unpacks them as they come, once each."""

    def __init__(self, repository: Repository, in_thread: InThread, ask: Callable[[ToMaster], bool]) -> None:
        self._repository = repository
        self._in_thread = in_thread
        self._present: set[tuple[PackageName, PackageVersion]] = set()
        self._arrivals: Arrivals[None] = Arrivals(ask)

    async def fetch(self, unit: RunUnit) -> None:
        """
        Return when the unit's package version and its dependencies are here.

        `LoadError` if the master cannot send one.
        """
        await self._fetch(unit.package, unit.version)
        for package, version in unit.needs.dependencies:
            await self._fetch(package, version)

    async def _fetch(self, package: PackageName, version: PackageVersion) -> None:
        wanted = (package, version)
        if wanted in self._present:
            return
        if not await self._in_thread(self._repository.has, *wanted):
            # The same files under two names are one version, and still two packages.
            await self._arrivals.wait(f"{package}/{version}", PackageWanted(*wanted))
        self._present.add(wanted)

    def sink(self, detail: str) -> BulkSink:
        """Where a stream named ``package/version`` goes; `WireError` if nobody asked for it."""
        if not self._arrivals.is_awaited(detail):
            raise WireError("This package was not asked for.")
        package, _, version = detail.partition("/")
        return _PackageSink(self, PackageName(package), PackageVersion(version))

    def unavailable(self, name: str, reason: str) -> None:
        """The version of this name, ``package/version``, will not come."""
        self._arrivals.failed(name, LoadError(reason))

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
        except Exception as fault:
            # Whatever it was: those who wait for it are told, and the sender too.
            self._cache.unavailable(self._name, f"The package could not be unpacked here: {fault}")
            raise


class ArgumentCache:
    """Arguments that are too large to travel inline; each is forgotten once it was handed out."""

    def __init__(self, ask: Callable[[ToMaster], bool]) -> None:
        self._arrivals: Arrivals[bytes] = Arrivals(ask)

    async def fetch(self, payload: Payload) -> bytes:
        """The bytes of a payload."""
        if not payload.sha256:
            return payload.inline
        return await self._arrivals.wait(payload.sha256, BlobWanted(payload.sha256))

    def sink(self, detail: str) -> BulkSink:
        """Where a stream named by its digest goes; `WireError` if nobody asked for it."""
        if not self._arrivals.is_awaited(detail):
            raise WireError("These arguments were not asked for.")
        return _ArgumentSink(self._arrivals, detail)

    def unavailable(self, digest: str, reason: str) -> None:
        """The master cannot send it."""
        self._arrivals.failed(digest, LoadError(reason))

    def ask_again(self) -> None:
        """There is a new link."""
        self._arrivals.ask_again()


class _ArgumentSink:
    def __init__(self, arrivals: Arrivals[bytes], digest: str) -> None:
        self._arrivals = arrivals
        self._digest = digest
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > ARGUMENTS_LIMIT:
            self._refuse(f"Arguments above {ARGUMENTS_LIMIT} bytes are refused.")

    async def finish(self) -> None:
        if hashlib.sha256(self._data).hexdigest() != self._digest:
            self._refuse("The arguments are not what their digest says.")
        self._arrivals.arrived(self._digest, bytes(self._data))

    def abort(self, reason: str) -> None:
        self._data.clear()

    def _refuse(self, reason: str) -> NoReturn:
        """They would be the same at another try: those who wait for them are told, and the sender too."""
        self._arrivals.failed(self._digest, LoadError(reason))
        raise WireError(reason)
