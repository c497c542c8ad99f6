# SPDX-License-Identifier: MIT
"""Identities of daemons."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from pydra.cluster.auth import identity as identities
from pydra.cluster.auth.identity import ensure_identity, fingerprint, normalise_fingerprint
from pydra.errors import ConfigError


def test_made_once_and_kept(tmp_path: Path) -> None:
    """An identity is made at the first start and is the same at every later one."""
    first = ensure_identity(tmp_path / "new")
    assert ensure_identity(tmp_path / "new") == first


def test_files_are_private(tmp_path: Path) -> None:
    """The key is readable by its owner only, and so is the directory that was made for it; no draft stays."""
    directory = tmp_path / "new"
    ensure_identity(directory)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [directory, *directory.iterdir()]}
    assert modes == {"new": 0o700, "identity.key": 0o600, "identity.pem": 0o600}


def test_fingerprint_form(tmp_path: Path) -> None:
    """A fingerprint is 52 base32 characters in groups of four."""
    groups = ensure_identity(tmp_path).fingerprint.split("-")
    assert [len(group) for group in groups] == [4] * 13
    assert set("".join(groups)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def test_fingerprint_depends_on_the_key_only(tmp_path: Path) -> None:
    """A certificate that is made again for the same key has the same fingerprint."""
    first = ensure_identity(tmp_path)
    (tmp_path / "identity.pem").unlink()
    second = ensure_identity(tmp_path)
    assert second.fingerprint == first.fingerprint
    assert second.certificate_pem != first.certificate_pem
    assert fingerprint(x509.load_pem_x509_certificate(second.certificate_pem)) == first.fingerprint


def test_key_is_not_shown(tmp_path: Path) -> None:
    """The text form of an identity, as it may come into a log, does not hold the key."""
    identity = ensure_identity(tmp_path)
    assert identity.key_pem.decode() not in repr(identity)
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that others may read is refused with the command that mends it."""
    ensure_identity(tmp_path)
    key = tmp_path / "identity.key"
    key.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {key}"):
        ensure_identity(tmp_path)


def test_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that belongs to neither us nor root is refused."""
    ensure_identity(tmp_path)
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        os.chown(tmp_path / "identity.key", 12345, 12345)
    with pytest.raises(ConfigError, match="chown"):
        ensure_identity(tmp_path)


@pytest.mark.root_only
def test_root_reads_the_key_of_a_daemon_with_its_own_user(tmp_path: Path) -> None:
    """A directory that root gave to a daemon's user, with the key in it, can be started from again."""
    made = ensure_identity(tmp_path)
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 12345, 12345)

    assert ensure_identity(tmp_path) == made


EMPTY_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("content", [b"", b"nonsense", EMPTY_KEY])
@pytest.mark.parametrize("name", ["identity.key", "identity.pem"])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is no key or certificate is refused by name."""
    ensure_identity(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        ensure_identity(tmp_path)


def test_foreign_certificate_is_refused(tmp_path: Path) -> None:
    """A certificate of another key is refused."""
    ensure_identity(tmp_path / "one")
    other = ensure_identity(tmp_path / "two")
    (tmp_path / "one" / "identity.pem").write_bytes(other.certificate_pem)
    with pytest.raises(ConfigError, match="does not belong"):
        ensure_identity(tmp_path / "one")


def test_directory_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    """A key file that is a directory is refused, not crashed upon."""
    (tmp_path / "identity.key").mkdir()
    with pytest.raises(ConfigError, match=r"identity\.key"):
        ensure_identity(tmp_path)


def test_two_first_starts_at_the_same_time(tmp_path: Path) -> None:
    """A file that another process made in the meantime is left alone."""
    path = tmp_path / "secret"
    identities.create_secret(path, b"first")
    identities.create_secret(path, b"second")
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_certificate_can_be_the_only_ca(tmp_path: Path) -> None:
    """A client may load the certificate as its only CA."""
    context = ssl.create_default_context(cadata=ensure_identity(tmp_path).certificate_pem.decode())
    assert len(context.get_ca_certs()) == 1


def test_fingerprints_are_normalised(tmp_path: Path) -> None:
    """Case, spaces and grouping of a fingerprint do not matter."""
    known = ensure_identity(tmp_path).fingerprint
    for text in (known.lower(), known.replace("-", ""), known.replace("-", " "), f"  {known}\n"):
        assert normalise_fingerprint(text) == known


@pytest.mark.parametrize(
    "text", ["", "ABCD", "1" * 52, "A" * 51, "A" * 53, "\N{KELVIN SIGN}" * 52, "A" * 51 + "\0"]
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    """Any other text is no fingerprint."""
    with pytest.raises(ConfigError):
        normalise_fingerprint(text)
