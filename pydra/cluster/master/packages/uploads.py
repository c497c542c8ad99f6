# SPDX-License-Identifier: MIT
"""
Packages that come through the API: written to a file, unpacked in a sandbox, described, and then current.

They are kept beside ``TASKS_DIR``, which belongs to people and which the master only reads. A package of the
same name in there is the one that counts, so uploading another is refused.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.commands.objects import JSON
from pydra.cluster.master.commands.tasks import package_object
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.master.packages.unpacking import Unpacking
from pydra.cluster.packages.content import name_problem
from pydra.cluster.packages.upload import PACKED_LIMIT
from pydra.errors import (
    InvalidParameters,
    LimitExceeded,
    PackageRefused,
    RequestError,
    TooManyRequests,
    WireError,
    WorkerDied,
)
from pydra.model.ids import PackageName

AT_ONCE = 2
"""Uploads that may be under way."""


class Uploads:
    """Takes uploads; the files of unfinished ones are below ``directory``, without a name."""

    def __init__(
        self, directory: Path, library: PackageLibrary, unpacking: Unpacking, in_thread: InThread
    ) -> None:
        self._directory = directory
        self._library = library
        self._unpacking = unpacking
        self._in_thread = in_thread
        self._under_way = 0

    def open(self, package: str) -> Upload:
        """
        Begin to take a package of this name.

        `InvalidParameters`, `Conflict` or `TooManyRequests` if it would not be taken anyway.
        """
        problem = name_problem(package)
        if problem is not None:
            raise InvalidParameters(errors={"package": [problem]})
        self._library.check_uploadable(PackageName(package))
        if self._under_way >= AT_ONCE:
            raise TooManyRequests("Other packages are being uploaded; try again when they are done.")
        self._under_way += 1
        return Upload(self, PackageName(package))

    async def make_file(self) -> IO[bytes]:
        """An empty file without a name, which is gone when it is closed."""
        file: IO[bytes] = await self._in_thread(self._make_file)
        return file

    def _make_file(self) -> IO[bytes]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._directory)

    async def accept(self, package: PackageName, file: IO[bytes]) -> JSON:
        """All of it is in the file: unpack, describe; the package as it is listed."""
        await self._in_thread(file.seek, 0)
        try:
            version = await self._unpacking.unpack(package, file)
        except PackageRefused as fault:
            raise InvalidParameters(errors={"package": [str(fault)]}) from None
        except (WorkerDied, LimitExceeded, WireError) as fault:
            raise RequestError(f"The package could not be unpacked: {fault}") from None
        return package_object(await self._library.put_uploaded(package, version))

    async def call(self, file: IO[bytes], method: str, *arguments: object) -> None:
        """Call a method of a file in a thread."""
        await self._in_thread(getattr(file, method), *arguments)

    def ended(self) -> None:
        """An upload is done, or given up."""
        self._under_way -= 1


class Upload:
    """One package on its way; ``finish`` or ``abort`` ends it."""

    log = Logger()

    def __init__(self, uploads: Uploads, package: PackageName) -> None:
        self._uploads = uploads
        self._package = package
        self._file: IO[bytes] | None = None
        self._size = 0
        self._ended = False

    async def write(self, data: bytes) -> None:
        """Take the next bytes of the compressed archive."""
        self._size += len(data)
        if self._size > PACKED_LIMIT:
            raise RequestError(f"Packed, a package may have {PACKED_LIMIT // 2**20} MiB.")
        if self._file is None:
            self._file = await self._uploads.make_file()
        await self._uploads.call(self._file, "write", data)

    async def finish(self) -> JSON:
        """All bytes are here; the package as it is listed, once it was described."""
        try:
            if self._file is None:
                raise InvalidParameters(errors={"package": ["There are no bytes of a package."]})
            return await self._uploads.accept(self._package, self._file)
        finally:
            self.abort()

    def abort(self) -> None:
        """Keep nothing of it; after the end this changes nothing."""
        if self._ended:
            return
        self._ended = True
        self._uploads.ended()
        if self._file is not None:
            closed = Deferred.fromCoroutine(self._uploads.call(self._file, "close"))
            closed.addErrback(lambda fault: self.log.failure("An upload was not cleared away", fault))
