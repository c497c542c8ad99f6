# SPDX-License-Identifier: MIT
"""The controller's key file: whom to log in as, and which master to trust."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from pydra.cluster.controller import CONTROLLER_ERROR_NO_RSA_KEY, ControllerException

_LARGEST = 64 * 1024
_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


class Key(NamedTuple):
    """What ``master.key`` holds; ``pem`` is the whole of it."""

    path: Path
    pem: bytes
    certificate_pem: str
    certificate: bytes
    """DER."""

    @property
    def is_private(self) -> bool:
        """False for the public half, with which nobody can log in."""
        return b"PRIVATE KEY-----" in self.pem


def read_key(path: Path) -> Key | None:
    """The key in the file; None if there is no file. `ControllerException` -4 if it cannot be used."""
    try:
        with path.open("rb") as file:
            pem = file.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise _unusable(f"The key {path} cannot be read: {fault.strerror}.") from None
    text = pem.decode("ascii", "replace")
    start, end = text.find(_BEGIN), text.find(_END)
    if start < 0 or end < start or b" KEY-----" not in pem:
        raise _unusable(f"{path} is no master.key: that holds a private key and the master's certificate.")
    certificate_pem = text[start : end + len(_END)] + "\n"
    try:
        certificate = ssl.PEM_cert_to_DER_cert(certificate_pem)
    except ValueError:
        raise _unusable(f"The certificate in {path} cannot be read; copy master.key again.") from None
    return Key(path, pem, certificate_pem, certificate)


def _unusable(text: str) -> ControllerException:
    return ControllerException(CONTROLLER_ERROR_NO_RSA_KEY, text)
