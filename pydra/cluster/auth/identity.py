# SPDX-License-Identifier: MIT
"""
The identity of a daemon: an ECDSA P-256 key that never leaves its machine, and a certificate that only
carries it.

Peers know each other by fingerprint: SHA-256 of the public key. Names and dates in the certificate say
nothing.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import secrets
import stat
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pydra.errors import ConfigError

KEY_FILE = "identity.key"
CERTIFICATE_FILE = "identity.pem"

CERTIFICATE_NAME = "pydra"
"""The DNS name in every certificate; whoever has the certificate as its only CA may check it."""

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_LENGTH = 52
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


@attrs.frozen
class Identity:
    """
    The private key and the certificate of a daemon, both PEM, and the fingerprint that peers know it by.
    """

    key_pem: bytes = attrs.field(repr=False)
    certificate_pem: bytes
    fingerprint: str


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo: 52 base32 characters in groups of four."""
    public = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(public).digest()).decode("ascii").rstrip("=")
    return _grouped(text)


def normalise_fingerprint(text: str) -> str:
    """
    The fingerprint as this module writes it, whatever the case and grouping; `ConfigError` if it is none.
    """
    plain = "".join(text.split()).replace("-", "").upper()
    if len(plain) != _LENGTH or not _LETTERS.issuperset(plain):
        raise ConfigError(f"{text!r} is no fingerprint: that is {_LENGTH} characters A-Z and 2-7.")
    return _grouped(plain)


def ensure_identity(directory: Path) -> Identity:
    """
    The identity kept in ``directory``, made there if there is none.

    `ConfigError` if the files are not good, or if anybody else may read the key. It blocks: call it before
    the reactor runs.
    """
    key_path, certificate_path = directory / KEY_FILE, directory / CERTIFICATE_FILE
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not key_path.exists():
        create_secret(key_path, _new_key())
    key_pem = read_secret(key_path)
    key = _loaded_key(key_path, key_pem)
    if not certificate_path.exists():
        create_secret(certificate_path, _certificate_of(key))
    certificate_pem = certificate_path.read_bytes()
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise ConfigError(f"{certificate_path} is no certificate; delete it, and it is made again.") from None
    if certificate.public_key() != key.public_key():
        raise ConfigError(
            f"{certificate_path} does not belong to {key_path}; delete it, and it is made again."
        )
    return Identity(key_pem, certificate_pem, fingerprint(certificate))


def create_secret(path: Path, content: bytes) -> None:
    """
    ``path`` exists with all of a content, readable by nobody else; a file that was there first is left alone.

    A crash leaves either no file or a whole one.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_new(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def write_new(path: Path, content: bytes) -> None:
    """A new file, mode 0600, with the content on disk; `FileExistsError` if the name is taken."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_secret(path: Path) -> bytes:
    """
    The content of a file that only its owner can read; `ConfigError` says what to run if that is not so.

    The owner is us or root; root accepts that of the directory too, since it gives a daemon's directory to
    the daemon's own user.
    """
    owners = {os.geteuid(), 0}
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read()
        if os.geteuid() == 0:
            owners.add(path.parent.stat().st_uid)
    except OSError as fault:
        raise ConfigError(f"{path} cannot be read: {fault.strerror}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a file.")
    if status.st_mode & 0o077:
        raise ConfigError(f"{path} is open to other users; run: chmod 600 {path}")
    if status.st_uid not in owners:
        raise ConfigError(f"{path} belongs to another user; run: chown {os.geteuid()} {path}")
    return content


def _grouped(text: str) -> str:
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _loaded_key(path: Path, pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise ConfigError(f"{path} is no private key in PEM.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} holds a key of another kind than ECDSA.")
    return key


def _certificate_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A self-signed certificate; it is its own CA, so that a client may load it as the only one."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFICATE_NAME)])
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CERTIFICATE_NAME)]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
