# SPDX-License-Identifier: MIT
"""
The administrator's controller key: ``master.key``, an RSA-3072 private key and the master's certificate, in
PEM.

It is not the master's identity. Whoever holds a copy of the file can log in, and knows which master to trust.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from Crypto.PublicKey import RSA
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pydra.cluster.auth.challenge import private_block
from pydra.cluster.auth.identity import Identity, create_secret, read_secret, write_new
from pydra.errors import ConfigError

KEY_BITS = 3072


def ensure_master_key(path: Path, identity: Identity) -> None:
    """
    ``path`` holds the administrator's key and this master's certificate, readable by its owner only.

    The key is made once and kept; a certificate of another identity is replaced. `ConfigError` if the file is
    open to others or holds no key. It blocks, for about a tenth of a second when the key is made.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_secret(path, _joined(_new_key(), identity))
    content = read_secret(path)
    wanted = _joined(private_block(content), identity)
    _public(path, content)
    if content != wanted:
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        write_new(draft, wanted)
        os.replace(draft, path)


def administrator_public_key(path: Path) -> bytes:
    """The public half (PEM) of the key in ``master.key``; `ConfigError` if the file is not good."""
    return _public(path, read_secret(path))


def _public(path: Path, content: bytes) -> bytes:
    try:
        key = RSA.import_key(private_block(content))
    except (ValueError, IndexError, TypeError):
        raise ConfigError(f"{path} holds no RSA key; move it away, and a new one is made.") from None
    if not key.has_private() or key.size_in_bits() < KEY_BITS:
        raise ConfigError(f"{path} holds no RSA private key of {KEY_BITS} bits or more.")
    public: bytes = key.public_key().export_key("PEM")
    return public


def _new_key() -> bytes:
    # OpenSSL finds the primes ten times as fast as pycryptodome does, and every new cluster waits for them.
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _joined(private: bytes, identity: Identity) -> bytes:
    return private.strip() + b"\n" + identity.certificate_pem
