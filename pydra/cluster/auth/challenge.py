# SPDX-License-Identifier: MIT
"""
How a controller proves that it holds the administrator's key: by a signature that is good for one login only.

What is signed names the role, the key, both nonces and the certificate that the controller saw, so it cannot
be replayed, reflected, or relayed by someone with another certificate. The signature is RSA-PSS with
SHA-256, MGF1-SHA-256 and 32 bytes of salt.

Clients load this module: pycryptodome is imported only when something is signed or checked.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

from pydra.errors import ConfigError, InvalidParameters

if TYPE_CHECKING:
    from Crypto.PublicKey.RSA import RsaKey

LABEL = b"pydra-controller-login-1"
BINDING = b"tls-server-end-point"

NONCE_SIZE = 32
"""Bytes of either nonce."""

_SALT_SIZE = 32
_MINIMUM_BITS = 3072
_PRIVATE_BEGIN = b"-----BEGIN "
_PRIVATE_NAMES = (b"RSA PRIVATE KEY-----", b"PRIVATE KEY-----")


def transcript(
    role: str, key_id: str, client_nonce: bytes, server_nonce: bytes, certificate_sha256: bytes
) -> bytes:
    """
    What is signed: each part with its length in front, so no two logins have the same.

    ``certificate_sha256`` is the digest of the server's certificate in DER. `InvalidParameters` if a nonce or
    the digest has the wrong size.
    """
    if len(client_nonce) != NONCE_SIZE or len(server_nonce) != NONCE_SIZE:
        raise InvalidParameters(f"A nonce has {NONCE_SIZE} bytes.")
    if len(certificate_sha256) != hashlib.sha256().digest_size:
        raise InvalidParameters("The digest of the certificate has 32 bytes.")
    parts = (
        LABEL,
        role.encode(),
        key_id.encode(),
        client_nonce,
        server_nonce,
        BINDING,
        certificate_sha256,
    )
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign(private_pem: bytes, transcript: bytes) -> bytes:
    """
    The signature by the private key in ``private_pem``, which may be the whole of ``master.key``.

    `ConfigError` if there is no RSA private key in it.
    """
    from Crypto.Hash import SHA256  # noqa: PLC0415 - clients load this module, and most never log in
    from Crypto.Signature import pss  # noqa: PLC0415 - as above

    key = _loaded(private_block(private_pem))
    if not key.has_private():
        raise ConfigError("This is a public key; only the private key can log in.")
    signature: bytes = pss.new(key, salt_bytes=_SALT_SIZE).sign(SHA256.new(transcript))
    return signature


def verify(public_pem: bytes, transcript: bytes, signature: bytes) -> bool:
    """True if the holder of the key signed exactly this transcript."""
    from Crypto.Hash import SHA256  # noqa: PLC0415 - as above
    from Crypto.Signature import pss  # noqa: PLC0415 - as above

    try:
        pss.new(_loaded(public_pem), salt_bytes=_SALT_SIZE).verify(SHA256.new(transcript), signature)
    except (ValueError, TypeError, ConfigError):
        return False
    return True


def key_id(pem: bytes) -> str:
    """The name of a key: SHA-256 (hex) of its public half, whichever half ``pem`` holds."""
    block = private_block(pem) if b"PRIVATE KEY" in pem else pem
    return hashlib.sha256(_loaded(block).public_key().export_key("DER")).hexdigest()


def private_block(pem: bytes) -> bytes:
    """The one private key among the PEM blocks; `ConfigError` if there is none."""
    for name in _PRIVATE_NAMES:
        start = pem.find(_PRIVATE_BEGIN + name)
        end = pem.find(b"-----END " + name, start)
        if 0 <= start < end:
            return pem[start : end + len(b"-----END " + name)] + b"\n"
    raise ConfigError("There is no private key in this file; the controller key is the master's master.key.")


@functools.lru_cache(maxsize=8)
def _loaded(pem: bytes) -> RsaKey:
    """The key; parsing one checks its primes, which takes as long as five signatures."""
    from Crypto.PublicKey import RSA  # noqa: PLC0415 - as above

    try:
        key = RSA.import_key(pem)
    except (ValueError, IndexError, TypeError):
        raise ConfigError("This is no RSA key in PEM.") from None
    if key.size_in_bits() < _MINIMUM_BITS:
        raise ConfigError(f"This RSA key is too short; it must have {_MINIMUM_BITS} bits or more.")
    return key
