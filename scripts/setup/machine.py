# SPDX-License-Identifier: MIT
"""
What the two scripts need of the machine: a virtual environment with Pydra in it, and bubblewrap.

Standard library only: it runs before anything is installed. Whatever is missing is made or installed; if that
cannot be done, one sentence says which command to run, and the exit code is 3.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".tools"
STAMP = VENV / "pydra.stamp"

MISSING = 3
"""Exit code: something is missing that cannot be installed from here."""


def say(text: str) -> None:
    """Say something to the person, at once; what would steer the terminal is shown as a code."""
    shown = "".join(each if each == "\n" or each.isprintable() else ascii(each)[1:-1] for each in text)
    sys.stderr.write(f"{shown}\n")
    sys.stderr.flush()


def stop(sentence: str, code: int) -> NoReturn:
    """End with one sentence."""
    say(sentence)
    raise SystemExit(code)


def quiet(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str | None:
    """Run a command; return None if it went well, else all that it wrote."""
    done = subprocess.run(  # noqa: S603 - programs named in this file and in its callers
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=None if env is None else dict(env),
        cwd=cwd,
        check=False,
    )
    return None if done.returncode == 0 else done.stdout or f"exit code {done.returncode}"


def installed_by_pip(command: Sequence[str | Path]) -> str | None:
    """Run pip and say which package it is at; return None if it went well, else the end of what it wrote."""
    written: list[str] = []
    with subprocess.Popen(  # noqa: S603 - pip of our own environment
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            written.append(line)
            words = line.split()
            if words[:1] == ["Collecting"] and len(words) > 1:
                say(f"  fetching {words[1]}")
            elif words[:2] == ["Installing", "build"] and words[-1] == "started":
                say("  preparing Pydra")
            elif words[:2] == ["Installing", "collected"]:
                say(f"  installing {line.count(',') + 1} packages")
    return None if pip.returncode == 0 else "".join(written[-20:]) or f"exit code {pip.returncode}"


def is_root() -> bool:
    """Return True if Debian packages can be installed."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_debian(package: str) -> str | None:
    """Install a Debian package as root; return None if it went well, else what apt-get wrote."""
    say(f"Installing the Debian package {package} ...")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [
        "apt-get",
        "-qq",
        "-y",
        "--no-install-recommends",
        "-o",
        "Acquire::Retries=3",
        "install",
        package,
    ]
    fault = quiet(install, env)
    if fault is not None:
        quiet(["apt-get", "-qq", "-o", "Acquire::Retries=3", "update"], env)
        fault = quiet(install, env)
    return fault


def needs_venv_package() -> bool:
    """Return True if this Python cannot make a virtual environment with pip in it."""
    return quiet([sys.executable, "-c", "import ensurepip, venv"]) is not None


def be_readable() -> None:
    """
    Let others read what is made from here on, and as root package and examples too: daemons that root starts
    run under user ids of their own, whatever the umask was when this working copy was made.
    """
    os.umask(0o022)
    if os.geteuid() != 0:
        return
    trees = [os.walk(ROOT / name) for name in ("pydra", "examples")]
    for directory, _, files in itertools.chain(*trees):
        for path in (Path(directory), *(Path(directory, name) for name in files)):
            mode = path.lstat().st_mode
            wanted = mode | (0o055 if path.is_dir() else 0o044)
            if wanted != mode and not path.is_symlink():
                path.chmod(wanted & 0o7777)


def ensure_venv(extras: str = "") -> Path:
    """Return the Python of ``.venv`` with Pydra installed in it, made or brought up to date if necessary."""
    python = VENV / "bin" / "python"
    wanted = stamp(extras)
    if python.exists() and STAMP.exists() and wanted in STAMP.read_text().split():
        say(f"Using {VENV} (up to date).")
        return python
    if not python.exists() or quiet([python, "-m", "pip", "--version"]) is not None:
        if needs_venv_package():
            version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
            if not is_root() or install_debian("python3-venv") is not None or needs_venv_package():
                stop(
                    f"Virtual environments are missing; run: apt-get install python3-venv ({version})",
                    MISSING,
                )
        say(f"Making {VENV} with {sys.executable} (Python {sys.version.split()[0]}) ...")
        fault = quiet([sys.executable, "-m", "venv", "--clear", VENV])
        if fault is not None:
            stop(
                f"{fault}\nThe virtual environment cannot be made; run: {sys.executable} -m venv {VENV}",
                MISSING,
            )
    say("Installing Pydra and what it needs; this takes a minute the first time ...")
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "-e",
        f"{ROOT}{extras}",
    ]
    fault = installed_by_pip(install)
    if fault is not None:
        command = shlex.join(str(word) for word in install if word != "--progress-bar=off")
        stop(
            f"{fault}\nPydra cannot be installed; is the package registry reachable? Then run: {command}",
            MISSING,
        )
    known = set(STAMP.read_text().split()) if STAMP.exists() else set()
    # The stamps of another state of pyproject.toml are of no use any more.
    current = {stamp(), stamp("[dev]")}
    STAMP.write_text("\n".join(sorted((known & current) | {wanted} | ({stamp()} if extras else set()))))
    return python


def stamp(extras: str = "") -> str:
    """Return what an installation depends on, in one word."""
    content = (ROOT / "pyproject.toml").read_bytes() + extras.encode() + str(ROOT).encode()
    return hashlib.sha256(content).hexdigest()


def ensure_bubblewrap() -> dict[str, str]:
    """
    Return what the environment needs so that bubblewrap is found.

    It is installed as root; otherwise it is fetched from Debian's archive and unpacked into ``.tools``.
    """
    if shutil.which("bwrap") or os.environ.get("PYDRA_BUBBLEWRAP"):
        return {}
    if is_root() and install_debian("bubblewrap") is None and shutil.which("bwrap"):
        return {}
    unpacked = TOOLS / "usr" / "bin" / "bwrap"
    if not unpacked.exists():
        say("Fetching bubblewrap into .tools ...")
        fetch_debian("bubblewrap", TOOLS)
    if not unpacked.exists() or quiet([unpacked, "--version"]) is not None:
        stop("bubblewrap is missing; run: apt-get install bubblewrap", MISSING)
    return {"PYDRA_BUBBLEWRAP": str(unpacked)}


def fetch_debian(package: str, target: Path) -> None:
    """Unpack a Debian package without installing it; nothing happens if that is not possible here."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return
    with tempfile.TemporaryDirectory(prefix="pydra-fetch-") as name:
        work = Path(name)
        # A package list of our own, for where the machine's is empty: that needs no rights.
        own = [f"-o=Dir::State={work}/state", f"-o=Dir::Cache={work}/cache", "-o=Debug::NoLocking=1"]
        (work / "state" / "lists" / "partial").mkdir(parents=True)
        (work / "cache" / "archives" / "partial").mkdir(parents=True)
        if quiet(["apt-get", "-qq", "download", package], cwd=work) is not None:
            quiet(["apt-get", "-qq", *own, "-o=Acquire::Retries=3", "update"], cwd=work)
            quiet(["apt-get", "-qq", *own, "download", package], cwd=work)
        for archive in sorted(work.glob(f"{package}_*.deb"))[:1]:
            target.mkdir(exist_ok=True)
            quiet(["dpkg-deb", "-x", archive, target])


def check_sandbox(python: Path, env: Mapping[str, str]) -> None:
    """End with the sentence and the code of the sandbox's own check (3 missing, 4 refused) if it fails."""
    done = subprocess.run(  # noqa: S603 - programs named in this file and in its callers
        [python, "-m", "pydra.cluster.sandbox.check"],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        stop(lines[-1] if lines else f"The sandbox check ended with code {done.returncode}.", done.returncode)
