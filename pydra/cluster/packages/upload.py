# SPDX-License-Identifier: MIT
"""
How a package travels to the master: its archive, compressed.

What is uploaded is unpacked in a sandbox (``cluster.worker.unpack``); the master keeps what that tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from pydra.cluster.packages import archive
from pydra.errors import PackageRefused

PACKED_LIMIT = 64 * 1024 * 1024
"""Bytes of a compressed archive."""

PIECE = 256 * 1024
"""Bytes that are inflated at a time, at most."""


def compress(directory: Path) -> bytes:
    """The compressed archive of the package in ``directory``; `PackageRefused` if it may not be uploaded."""
    packing = zlib.compressobj()
    packed = bytearray()
    for data in archive.pack(directory):
        packed += packing.compress(data)
        _check_size(packed)
    packed += packing.flush()
    _check_size(packed)
    return bytes(packed)


def _check_size(packed: bytearray) -> None:
    if len(packed) > PACKED_LIMIT:
        raise PackageRefused(f"Compressed, the package has more than {PACKED_LIMIT // 2**20} MiB.")


class Inflater:
    """Turns pieces of a compressed archive into pieces of the archive, a bounded one at a time."""

    def __init__(self) -> None:
        self._inflating = zlib.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes inflate to; `PackageRefused` if they are no compressed archive."""
        plain = b""
        # A piece of full size may be the beginning of more, though all bytes were taken.
        while data or len(plain) == PIECE:
            if data and self._inflating.eof:
                raise PackageRefused("Bytes follow the compressed archive.")
            try:
                plain = self._inflating.decompress(data, PIECE)
            except zlib.error:
                raise PackageRefused("This is no compressed archive.") from None
            data = self._inflating.unconsumed_tail or self._inflating.unused_data
            if plain:
                yield plain

    def finish(self) -> None:
        """There are no more bytes; `PackageRefused` if some are missing."""
        if not self._inflating.eof:
            raise PackageRefused("The compressed archive ends too early.")
