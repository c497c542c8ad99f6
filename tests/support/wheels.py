# SPDX-License-Identifier: MIT
"""Wheels and source archives made by hand, so that nothing is fetched from anywhere."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path


def make_wheel(directory: Path, name: str, version: str = "1.0", requires: str = "", **files: str) -> Path:
    """A wheel of modules by name (``a__b`` is a file ``a/b``), in a directory that is made."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    information = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members = {f"{module.replace('__', '/')}.py": text for module, text in files.items()}
    members |= {f"{name}-{version}.dist-info/{file}": text for file, text in information.items()}
    record = f"{name}-{version}.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
        archive.writestr(record, "".join(f"{member},,\n" for member in [*members, record]))
    return path


def make_source(directory: Path, name: str, version: str, setup: str) -> Path:
    """A source archive whose ``setup.py`` would run when it is installed."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in (("setup.py", setup), ("PKG-INFO", f"Name: {name}\nVersion: {version}\n")):
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path
