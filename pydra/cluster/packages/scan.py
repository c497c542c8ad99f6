# SPDX-License-Identifier: MIT
"""Where packages may be: the directories of ``TASKS_DIR``."""

from __future__ import annotations

import os
from pathlib import Path

from pydra.cluster.packages.content import is_skipped
from pydra.errors import PackageRefused

CANDIDATES_LIMIT = 1000
"""Packages in one ``TASKS_DIR``."""


def scan(tasks_dir: Path) -> list[Path]:
    """
    The directories that may be packages, by name; none if ``tasks_dir`` is not there.

    A link to a directory and a directory with an impossible name are among them: adding it to a
    repository says why it is refused, so its author learns of it. `PackageRefused` if ``tasks_dir``
    cannot be read or holds too many.
    """
    try:
        with os.scandir(tasks_dir) as entries:
            names = sorted(entry.name for entry in entries if not is_skipped(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise PackageRefused(f"{tasks_dir} cannot be read: {fault.strerror}.") from None
    if len(names) > CANDIDATES_LIMIT:
        raise PackageRefused(f"{tasks_dir} holds more than {CANDIDATES_LIMIT} directories.")
    return [tasks_dir / name for name in names]
