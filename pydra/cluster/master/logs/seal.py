# SPDX-License-Identifier: MIT
"""
Seals: how the master knows what it sent to a node, without remembering what it ever sent.

Each attempt is sent with a seal over node, attempt and instance; its lines come back with it, be it after a
restart of either daemon, and so do the names of hired workers that a node still has. A node can make no seal
for what was not sent to it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from pydra.model.ids import Attempt, InstanceId, NodeId

SIZE = 16
"""Bytes of a seal."""

SECRET_SIZE = 32


class LogSeal:
    """Makes and checks seals with a secret that never leaves the master."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, node: NodeId, attempt: Attempt, instance: InstanceId) -> bytes:
        """The seal of an attempt."""
        text = f"{node} {attempt} {instance}".encode()
        return hashlib.blake2b(text, digest_size=SIZE, key=self._secret).digest()

    def holds(self, seal: bytes, node: NodeId, attempt: Attempt, instance: InstanceId) -> bool:
        """True if this master made it for just that."""
        return hmac.compare_digest(seal, self.make(node, attempt, instance))


def load_secret(path: Path) -> bytes:
    """
    The secret in a file, which is made if there is none that is whole; blocking, `OSError`.

    With a new secret, lines that nodes still hold of before are not wanted any more.
    """
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = b""
    if len(secret) == SECRET_SIZE:
        return secret
    secret = os.urandom(SECRET_SIZE)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, secret)
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)
    return secret
