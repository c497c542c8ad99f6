# SPDX-License-Identifier: MIT
"""The administrator's key and what is proved with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from pydra.cluster.auth.administrator import administrator_public_key, ensure_master_key
from pydra.cluster.auth.challenge import key_id, private_block, sign, transcript, verify
from pydra.cluster.auth.identity import ensure_identity
from pydra.errors import ConfigError, InvalidParameters

CLIENT, SERVER, CERTIFICATE = b"c" * 32, b"s" * 32, b"h" * 32


@pytest.fixture(scope="module")
def master_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``master.key``; it takes a second to make."""
    directory = tmp_path_factory.mktemp("master")
    path = directory / "master.key"
    ensure_master_key(path, ensure_identity(directory))
    return path


def test_holder_of_the_key_is_known(master_key: Path) -> None:
    """A signature by ``master.key`` as it is, certificate and all, is good for the same transcript."""
    public = administrator_public_key(master_key)
    said = transcript("controller", key_id(public), CLIENT, SERVER, CERTIFICATE)
    assert verify(public, said, sign(master_key.read_bytes(), said))


def test_public_key_cannot_answer(master_key: Path) -> None:
    """Whoever has the public key only cannot log in (in 2010 it could)."""
    public = administrator_public_key(master_key)
    with pytest.raises(ConfigError):
        sign(public, b"anything")
    forged = RSA.import_key(public)
    raw = pow(int.from_bytes(b"\1" * 384, "big"), forged.e, forged.n).to_bytes(384, "big")
    assert not verify(public, b"anything", raw)


@pytest.mark.parametrize(
    "other",
    [
        ("server", "id", CLIENT, SERVER, CERTIFICATE),
        ("controller", "other", CLIENT, SERVER, CERTIFICATE),
        ("controller", "id", SERVER, CLIENT, CERTIFICATE),
        ("controller", "id", CLIENT, b"t" * 32, CERTIFICATE),
        ("controller", "id", CLIENT, SERVER, b"i" * 32),
    ],
)
def test_signature_is_for_one_login(master_key: Path, other: tuple[str, str, bytes, bytes, bytes]) -> None:
    """A signature for another role, key, nonce or certificate is refused."""
    signature = sign(master_key.read_bytes(), transcript("controller", "id", CLIENT, SERVER, CERTIFICATE))
    assert not verify(administrator_public_key(master_key), transcript(*other), signature)


def test_parts_of_a_transcript_cannot_be_shifted() -> None:
    """The same letters, cut at another place, are another transcript."""
    one = transcript("ab", "c", CLIENT, SERVER, CERTIFICATE)
    assert one != transcript("a", "bc", CLIENT, SERVER, CERTIFICATE)


@pytest.mark.parametrize("signature", [b"", b"\0" * 384, b"\xff" * 384, b"x" * 10_000])
def test_bad_signatures_are_refused(master_key: Path, signature: bytes) -> None:
    """Bytes that are no signature are refused without an exception."""
    assert not verify(administrator_public_key(master_key), b"said", signature)


EMPTY_PUBLIC = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
EMPTY_PRIVATE = EMPTY_PUBLIC.replace(b"PUBLIC", b"PRIVATE")


@pytest.mark.parametrize("public", [b"", b"nonsense", EMPTY_PUBLIC])
def test_bad_public_keys_are_refused(public: bytes) -> None:
    """With what is no key, nothing is verified."""
    assert not verify(public, b"said", b"signature")


def test_short_keys_are_refused() -> None:
    """A key of less than 3072 bits neither signs nor verifies."""
    short = RSA.generate(1024)
    with pytest.raises(ConfigError, match="short"):
        sign(short.export_key(), b"said")
    assert not verify(short.public_key().export_key(), b"said", b"signature")


@pytest.mark.parametrize(
    ("client", "server", "digest"),
    [(b"", SERVER, CERTIFICATE), (CLIENT, b"s", CERTIFICATE), (CLIENT, SERVER, b"")],
)
def test_sizes_are_checked(client: bytes, server: bytes, digest: bytes) -> None:
    """A nonce or digest of another size is refused."""
    with pytest.raises(InvalidParameters):
        transcript("controller", "id", client, server, digest)


def test_key_is_named_by_its_public_half(master_key: Path) -> None:
    """Both holders give the key the same name."""
    assert key_id(master_key.read_bytes()) == key_id(administrator_public_key(master_key))


def test_made_once_and_kept(master_key: Path) -> None:
    """The key stays, and the file is private."""
    before = master_key.read_bytes()
    ensure_master_key(master_key, ensure_identity(master_key.parent))
    assert master_key.read_bytes() == before
    assert master_key.stat().st_mode & 0o777 == 0o600


def test_certificate_follows_the_identity(master_key: Path, tmp_path: Path) -> None:
    """With a new identity of the master the key stays and the certificate is replaced."""
    copy = tmp_path / "master.key"
    copy.write_bytes(master_key.read_bytes())
    copy.chmod(0o600)
    other = ensure_identity(tmp_path / "other")
    ensure_master_key(copy, other)
    assert private_block(copy.read_bytes()) == private_block(master_key.read_bytes())
    assert copy.read_bytes().endswith(other.certificate_pem)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_open_file_is_refused(master_key: Path, tmp_path: Path) -> None:
    """A ``master.key`` that others can read is refused."""
    copy = tmp_path / "master.key"
    copy.write_bytes(master_key.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        administrator_public_key(copy)


@pytest.mark.parametrize("content", [b"", b"nonsense", EMPTY_PRIVATE])
def test_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A ``master.key`` without a good key is refused and left as it is."""
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        ensure_master_key(path, ensure_identity(tmp_path))
    assert path.read_bytes() == content


def test_client_loads_little() -> None:
    """Importing the client's half loads neither pycryptodome, OpenSSL, cryptography nor Twisted."""
    code = (
        "import sys, pydra.cluster.auth.challenge;"
        "print([n for n in ('Crypto', 'OpenSSL', 'cryptography', 'twisted', 'msgspec') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
