# SPDX-License-Identifier: MIT
"""A small package in the cache of a launcher."""

from __future__ import annotations

import os

from tests.support.launchers import LauncherProcess

VERSION = "ab" * 32


def put_package(started: LauncherProcess, name: str = "demo") -> None:
    """Put it there, with the owner that the cache has."""
    directory = started.cache / name / VERSION
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("answer = 42\n")
    owner = started.cache.stat().st_uid
    for path in (directory.parent, directory, directory / "__init__.py"):
        os.chown(path, owner, owner)
