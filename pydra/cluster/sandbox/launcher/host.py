# SPDX-License-Identifier: MIT
"""What the host's file system looks like at its top."""

from __future__ import annotations

import os

from pydra.cluster.sandbox.launcher.policy import System

_PATHS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def find_systems() -> tuple[System, ...]:
    """The system directories beside /usr: links into it on most machines."""
    found = []
    for path in _PATHS:
        if os.path.islink(path):
            found.append(System(path, os.readlink(path)))
        elif os.path.isdir(path):
            found.append(System(path, ""))
    return tuple(found)
