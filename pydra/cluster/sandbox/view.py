# SPDX-License-Identifier: MIT
"""
The neutral view: a private mount namespace in which everything that a daemon needs is bound below one path.

An interpreter below a home of mode 0700 cannot be read by another uid; below the view it can. Each daemon
has a namespace of its own, so the path is the same for all, and nothing is seen of it outside.
"""

from __future__ import annotations

import ctypes
import os

from pydra.cluster.sandbox.launcher.configuration import Places
from pydra.cluster.sandbox.surroundings import below_usr
from pydra.errors import NamespacesRefused

RUN = "/run/pydra"
VIEW = f"{RUN}/view"

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_NOATIME, _MS_NODIRATIME, _MS_BIND = 32, 1024, 2048, 4096
_MS_REC, _MS_PRIVATE, _MS_RELATIME = 16384, 1 << 18, 1 << 21
_ST_RELATIME = 4096
_KEPT = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME
"""
Flags that have the same value in statvfs; a mount inside a container may not be remounted without its own.
"""


def make_run_directory() -> None:
    """Make the directory of everything that Pydra keeps while it runs as root."""
    try:
        os.mkdir(RUN, 0o711)
        os.chmod(RUN, 0o711)  # noqa: S103 - slot uids pass through it
    except FileExistsError:
        status = os.lstat(RUN)
        if status.st_uid or status.st_mode & 0o170022 != 0o040000:
            raise NamespacesRefused(f"{RUN} must be a directory that only root can write.") from None


def enter_namespace() -> None:
    """Move this process into a mount namespace of its own, with an empty view. `NamespacesRefused`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise NamespacesRefused(
            f"This machine refuses root a mount namespace ({os.strerror(ctypes.get_errno())}); "
            "start the container with --cap-add SYS_ADMIN, or start the daemon as another user."
        )
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    os.makedirs(VIEW, 0o755, exist_ok=True)
    os.chmod(VIEW, 0o755)  # noqa: S103 - an empty directory
    _mount("tmpfs", VIEW, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")


def bind(source: str, name: str, *, writable: bool, directory: bool = True) -> str:
    """Bind a directory or file at a name in the view; its path there."""
    path = f"{VIEW}/{name}"
    if directory:
        os.mkdir(path, 0o755)
    else:
        with open(path, "x"):
            pass
    _mount(source, path, None, _MS_BIND | _MS_REC)
    present = os.statvfs(path).f_flag
    flags = present & _KEPT | (_MS_RELATIME if present & _ST_RELATIME else 0) | _MS_NOSUID | _MS_NODEV
    _mount("none", path, None, flags | _MS_REMOUNT | _MS_BIND | (0 if writable else _MS_RDONLY))
    return path


def bind_places(places: Places) -> Places:
    """Bind interpreter, environment and package, read-only; where they are in the view."""
    sites = []
    for index, site in enumerate(places.sites):
        name = "site-packages" if index == 0 else f"site-packages-{index}"
        sites.append(site if below_usr(site) else bind(site, name, writable=False))
    os.mkdir(f"{VIEW}/package", 0o755)
    return places._replace(
        python=bind(places.python, "python", writable=False) if places.python else "",
        sites=tuple(sites),
        package=bind(places.package, "package/pydra", writable=False),
    )


def bind_data(mounts: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Bind the site's shared directories, read-only; where they are in the view."""
    if mounts:
        os.mkdir(f"{VIEW}/data", 0o755)
    return tuple((name, bind(source, f"data/{name}", writable=False)) for name, source in mounts)


def close_view() -> None:
    """Make the view itself read-only: nothing more is bound."""
    _mount("none", VIEW, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    if libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]):
        raise NamespacesRefused(f"{target} cannot be mounted in the view: {os.strerror(ctypes.get_errno())}.")
