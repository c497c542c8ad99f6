# SPDX-License-Identifier: MIT
"""Where the running interpreter, its installed packages and this package are."""

from __future__ import annotations

import compileall
import os
import sys
import sysconfig

import pydra
from pydra.cluster.sandbox.launcher.configuration import Places

_WORKER_SIDE = (
    "",
    "model",
    "cluster",
    "cluster/packages",
    "cluster/tasks",
    "cluster/wire",
    "cluster/worker",
)
_SITE_NAMES = ("site-packages", "dist-packages")


def find_places() -> Places:
    """The places of this process, by their real paths."""
    prefix = os.path.realpath(sys.base_prefix)
    executable = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    python = "" if below_usr(prefix) else prefix
    if python and not executable.startswith(f"{python}/"):
        executable = f"{python}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    # An interpreter that is linked with its library looks for it where it was built; elsewhere it must be
    # told.
    linked = bool(sysconfig.get_config_var("Py_ENABLE_SHARED")) and prefix != "/usr"
    return Places(
        python=python,
        executable=os.path.relpath(executable, python) if python else executable,
        library=("lib" if python else f"{prefix}/lib") if linked else "",
        sites=tuple(dict.fromkeys(os.path.realpath(path) for path in sys.path if _is_site(path))),
        package=os.path.dirname(os.path.realpath(pydra.__file__)),
    )


def compile_for_workers(package: str) -> None:
    """
    Compile what a worker imports, where we may write it; a worker cannot, and would compile it at each start.

    An installed package has it compiled already, and then this looks at some forty files.
    """
    for directory in _WORKER_SIDE:
        compileall.compile_dir(os.path.join(package, directory), maxlevels=0, quiet=2)


def below_usr(path: str) -> bool:
    """True for what every sandbox has anyway."""
    return path == "/usr" or path.startswith("/usr/")


def _is_site(path: str) -> bool:
    return os.path.basename(path).startswith(_SITE_NAMES) and os.path.isdir(path)
