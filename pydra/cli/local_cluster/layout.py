# SPDX-License-Identifier: MIT
"""What is where in the directory of a local cluster, and how files in it are written."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydra.cli.escape import shell_word, visible
from pydra.cli.failures import CliError

MASTER = "master"


class Layout:
    """The directory of one local cluster."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.key = self.directory / "master.key"
        self.client_settings = self.directory / "pydra_settings.py"
        self.record = self.directory / "cluster.json"
        self.tasks = self.directory / "tasks"

    @property
    def shown(self) -> str:
        """The directory as a message has it, on one line."""
        return visible(str(self.directory))

    @property
    def down(self) -> str:
        """The command that ends the cluster, for a shell."""
        return f"pydra cluster down --dir {shell_word(str(self.directory))}"

    @staticmethod
    def node(number: int) -> str:
        """Return the name of a node, counted from 1."""
        return f"node-{number}"

    def runtime(self, name: str) -> Path:
        """Return RUNTIME_FILES_DIR of a daemon."""
        return self.directory / name

    def settings(self, name: str) -> Path:
        """Return the settings file of a daemon."""
        return self.runtime(name) / "pydra_settings.py"

    def ready(self, name: str) -> Path:
        """Return the file in which a daemon says that it listens."""
        return self.runtime(name) / "ready.json"

    def output(self, name: str) -> Path:
        """Return the file that takes standard output and standard error of a daemon."""
        return self.runtime(name) / f"{name}.out"

    def log(self, name: str) -> Path:
        """Return the daemon's own log."""
        return self.runtime(name) / "logs" / ("master.log" if name == MASTER else "node.log")

    def make(self) -> None:
        """
        Make the directories that are missing, for their owner alone.

        Raises ``CliError`` if one cannot be made.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.tasks.is_dir():
                self.tasks.mkdir(mode=0o755, exist_ok=True)
                self.tasks.chmod(0o755)  # whatever the umask: a master that root starts is another user
        except OSError as error:
            raise CliError(f"{self.shown} cannot be used: {error.strerror}.") from error

    def make_runtime(self, name: str) -> None:
        """Make RUNTIME_FILES_DIR of a daemon, if it is missing."""
        self.runtime(name).mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Hold the directory against another ``up`` or ``down``.

        Raises ``CliError`` if another one holds it.
        """
        descriptor = os.open(
            self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(
                    f"Another pydra cluster command is at work in {self.shown}.", code="conflict"
                ) from None
            yield
        finally:
            os.close(descriptor)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """
    Write a file whole or not at all.

    A link in its place is replaced, not followed: the directory may belong to a daemon's own user.
    """
    beside = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as opened:
            os.fchmod(opened.fileno(), mode)
            opened.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_file(path: Path, limit: int = 1024 * 1024) -> bytes:
    """Return the content of a regular file, up to ``limit`` bytes; raises OSError, also for a link."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        return opened.read(limit)
