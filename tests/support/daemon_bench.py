# SPDX-License-Identifier: MIT
"""A daemon's begin, with an entry of the test."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pydra.cluster.sandbox.daemon import Beginning, begin
from pydra.cluster.sandbox.entry import Entry
from pydra.config import Settings

MODULE = "pydra.cluster.master.main"


class Bench:
    """``begin`` with an entry of the test; it keeps what it was called with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = directory / "runtime"
        self.settings_file = directory / "settings.py"
        self.launcher, self.other = socket.socketpair()
        self.calls: list[tuple[str, str, list[str], dict[str, Path]]] = []
        self.prepared: list[Settings] = []
        self.fault: Exception | None = None
        self.seen: dict[str, Path] | None = None
        self.locks: list[int] = []
        self.environ: dict[str, str] = {}
        self.start = ""
        """What the first start hands to the second."""
        self.write()

    def write(self, text: str = "") -> None:
        """Settings."""
        self.settings_file.write_text(f"RUNTIME_FILES_DIR = {str(self.runtime)!r}\n{text}\n")

    def enter(
        self,
        role: str,
        module: str,
        argv: list[str],
        directories: dict[str, Path],
        settings: Settings,
        kept: int,
    ) -> Entry:
        """Enter nothing."""
        self.calls.append((role, module, argv, directories))
        self.locks.append(kept)
        self.start = self.environ["PYDRA_START"]
        if self.fault is not None:
            raise self.fault
        return Entry(self.launcher, directories if self.seen is None else self.seen, "none")

    def prepare(self, settings: Settings) -> dict[str, str]:
        """Find that the directories are there."""
        assert settings.runtime.is_dir()
        assert settings.tasks_dir.is_dir()
        self.prepared.append(settings)
        return {"fact": "known"}

    def begin(self, *argv: str) -> Beginning:
        """Begin with the settings of the test, or these arguments."""
        given = list(argv) or ["--settings", str(self.settings_file)]
        return begin("master", MODULE, given, self.prepare, self.enter, self.environ)

    def begin_again(self, start: str | None = None) -> Beginning:
        """The second start, with what the first one handed on, or with another text."""
        self.environ["PYDRA_START"] = self.start if start is None else start
        return self.begin("--entered")

    def ends(self, *argv: str) -> int:
        """The exit status of a daemon that cannot begin."""
        with pytest.raises(SystemExit) as raised:
            self.begin(*argv)
        assert isinstance(raised.value.code, int)
        return raised.value.code

    def end(self) -> None:
        """Let go of the runtime directory, as a daemon that ends."""
        for lock in {*self.locks}:
            os.close(lock)
        self.locks.clear()
