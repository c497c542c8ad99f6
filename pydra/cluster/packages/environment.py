# SPDX-License-Identifier: MIT
"""
What pip installs for tasks: one directory for each set of requirements, made once, whole or absent.

Only wheels are taken, so nothing of them runs when they are installed; pip runs as a process of its own, with
a time limit, under the daemon's uid. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pydra.cluster.packages.manifest import is_requirement
from pydra.errors import LoadError, StoreError

SITE = ".site"
"""Name of the directory of environments in the cache, and of the one environment among a task's packages."""

INSTALL_S = 600.0
"""Seconds that pip may take."""

FILES_LIMIT = 100_000
"""Files of one environment; its launcher takes no more."""

SIZE_LIMIT = 4 * 1024**3
"""Bytes of one environment."""

_SAID_LIMIT = 2000
_UNFINISHED = ".new-"
_KEPT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")


class Wheels(msgspec.Struct, frozen=True):
    """Where wheels come from: the address of an index, a directory, or both; at least one is given."""

    index: str = ""
    directory: str = ""


def environment_key(requirements: Sequence[str]) -> str:
    """The name of the environment with these requirements on this machine: 64 hexadecimal digits."""
    machine = f"{sys.implementation.cache_tag} {sys.platform} {platform.machine()}"
    listed = "\n".join(sorted(set(requirements)))
    return hashlib.sha256(f"pydra-environment-1\n{machine}\n{listed}".encode()).hexdigest()


class EnvironmentDirectory:
    """
    The environments below ``root``.

    ``variables`` are added to the environment of pip, which needs them to run this interpreter.
    """

    def __init__(
        self, root: Path, wheels: Wheels, variables: Mapping[str, str] = {}, install_s: float = INSTALL_S
    ) -> None:
        self.root = root
        self._wheels = wheels
        self._variables = dict(variables)
        self._install_s = install_s
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def sweep(self) -> None:
        """Remove what an earlier process left unfinished; called before anything is installed."""
        for left in self.root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def use(self, key: str) -> bool:
        """Whether the environment is here; it is the one used last then."""
        try:
            os.utime(self.root / key)
        except FileNotFoundError:
            return False
        return True

    def install(self, requirements: Sequence[str]) -> None:
        """
        Make the environment of these requirements, if it is not here.

        `LoadError` with pip's words; `StoreError` if there is no room for it.
        """
        key = environment_key(requirements)
        if self.use(key):
            return
        if bad := [each for each in requirements if not is_requirement(each)]:
            raise LoadError(f"{bad[0][:100]!r} is no requirement.")
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.root))
        try:
            target = place / "site"
            target.mkdir()
            self._run(place, target, requirements)
            _settle(target)
            target.rename(self.root / key)
        except OSError as fault:
            raise StoreError(f"The requirements cannot be kept here: {fault.strerror}.") from None
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def shrink(self, limit: int, needed: Collection[str]) -> None:
        """Remove the environments that were not used for the longest, until they have ``limit`` bytes."""
        found = []
        for path in self.root.glob("[0-9a-f]*"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.name, _measure(path)[1]))
        total = sum(size for _, _, size in found)
        for _, key, size in sorted(found):
            if total <= limit:
                return
            if key not in needed:
                total -= size
                gone = self.root / f"{_UNFINISHED}{key}"
                (self.root / key).rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def stop(self) -> None:
        """End an installation that runs, and refuse others; may be called from another thread."""
        self._stopped = True
        running = self._running
        if running is not None:
            running.kill()

    def _run(self, place: Path, target: Path, requirements: Sequence[str]) -> None:
        if importlib.util.find_spec("pip") is None:
            raise LoadError("The requirements cannot be installed: pip is not installed beside Pydra.")
        said = place / "said"
        with said.open("wb") as output:
            self._running = subprocess.Popen(  # noqa: S603 - our own interpreter; each requirement was checked
                self._command(target, requirements),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=place,
                env=self._environment(place),
            )
            try:
                if self._stopped:
                    self._running.kill()
                status = self._running.wait(self._install_s)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
                raise LoadError(
                    f"Installing the requirements took longer than {self._install_s:g} s."
                ) from None
            finally:
                self._running = None
        if self._stopped:
            raise LoadError("The daemon is stopping.")
        if status:
            raise LoadError(f"pip cannot install {', '.join(requirements)}: {_words(said)}")

    def _command(self, target: Path, requirements: Sequence[str]) -> list[str]:
        sources = []
        if not self._wheels.index:
            sources.append("--no-index")
        else:
            sources += ["--index-url", self._wheels.index]
        if self._wheels.directory:
            sources += ["--find-links", self._wheels.directory]
        # Without site: the modules that this process has are reached by PYTHONPATH alone.
        return [
            *(sys.executable, "-S", "-s", "-P", "-m", "pip", "install", "--quiet", "--no-input"),
            *("--disable-pip-version-check", "--no-cache-dir", "--no-warn-script-location"),
            *("--root-user-action", "ignore", "--only-binary", ":all:", *sources),
            *("--target", str(target), "--", *requirements),
        ]

    def _environment(self, place: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return {
            **kept,
            **self._variables,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(place),
            "TMPDIR": str(place),
            "LANG": "C.UTF-8",
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages")),
        }


def _settle(target: Path) -> None:
    """Make it readable for all and writable for nobody; `LoadError` if it is not files and directories."""
    files, size = _measure(target)
    if files > FILES_LIMIT or size > SIZE_LIMIT:
        raise LoadError(
            f"The requirements are {files:,} files and {size // 2**20:,} MiB; the limits are {FILES_LIMIT:,} "
            f"and {SIZE_LIMIT // 2**20:,}."
        )
    for directory, names, files_here in os.walk(target):
        Path(directory).chmod(0o755)
        for name in (*names, *files_here):
            path = Path(directory) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                path.chmod(0o555 if mode & 0o111 else 0o444)
            elif not stat.S_ISDIR(mode):
                raise LoadError(f"The requirements bring {name!r}, which is neither a file nor a directory.")


def _measure(directory: Path) -> tuple[int, int]:
    """Files, directories among them, and their bytes."""
    files = size = 0
    for place, names, files_here in os.walk(directory):
        files += len(names) + len(files_here)
        for name in files_here:
            with suppress(FileNotFoundError):
                size += (Path(place) / name).lstat().st_size
    return files, size


def _words(said: Path) -> str:
    """What pip said last, its errors alone if there are any."""
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - 16 * 1024))
        lines = file.read().decode(errors="replace").splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(errors or lines)[-_SAID_LIMIT:] or "it said nothing."
