# SPDX-License-Identifier: MIT
"""
Whether sandboxes can be made on this machine: ``python -m pydra.cluster.sandbox.check``.

Ends with 0 if so, 3 if bubblewrap is missing or too old, 4 if the machine refuses namespaces, and says in a
sentence on standard error what to do. $PYDRA_BUBBLEWRAP names another bubblewrap than that on PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.host import find_systems
from pydra.errors import NamespacesRefused, SandboxError, SandboxToolMissing

MISSING, REFUSED = 3, 4
"""Exit statuses."""

OLDEST = (0, 8, 0)
"""The first bubblewrap that can size a tmpfs and forbid user namespaces inside."""

_NOBODY = 65534
_DEADLINE_S = 60.0
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
)
"""Kernel switches, the value of each that refuses, and what to set instead."""


def find_bubblewrap(configured: str = "") -> str:
    """The path of bubblewrap: the configured one, or what is found on PATH. `SandboxToolMissing`."""
    if configured:
        if not os.access(configured, os.X_OK):
            raise SandboxToolMissing(
                f"BUBBLEWRAP is {configured}, which cannot be executed; correct the setting."
            )
        return os.path.realpath(configured)
    found = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SandboxToolMissing
    return os.path.realpath(found)


def probe(bubblewrap: str, uid: int | None = None) -> None:
    """
    Make one sandbox and end it; as ``uid`` when we are root, which needs no permission that workers lack.

    `SandboxToolMissing` if the tool is too old, `NamespacesRefused` if no sandbox came about.
    """
    version = _run([bubblewrap, "--version"], uid)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", version.stdout)
    if found is None or tuple(int(part) for part in found.groups()) < OLDEST:
        said = version.stdout.strip().partition("\n")[0]
        raise SandboxToolMissing(
            f"{bubblewrap} is {said or 'not bubblewrap'}; "
            f"version {'.'.join(str(part) for part in OLDEST)} or newer is needed."
        )
    ended = _run([bubblewrap, *_probe_arguments()], uid)
    if ended.returncode:
        raise NamespacesRefused(refusal(ended.stderr, read_switches(), in_container=_in_container()))


def _probe_arguments() -> list[str]:
    protections = [*policy.NAMESPACES, "--disable-userns", "--die-with-parent"]
    mounts = [*policy.room_mounts(policy.system_room(find_systems())), "--proc", "/proc", "--dev", "/dev"]
    return [*protections, *mounts, "--", "/usr/bin/true"]


def refusal(said: str, switches: dict[str, str], *, in_container: bool) -> str:
    """
    Why there is no sandbox, and the remedy, from what bubblewrap said and what the kernel's switches are.
    """
    lines = said.strip().splitlines()
    cause = f"This machine refuses new namespaces ({lines[-1] if lines else 'bubblewrap said nothing'})"
    for name, refusing, remedy in _SWITCHES:
        if switches.get(name) == refusing:
            return f"{cause}; run: sysctl -w {remedy}"
    if in_container:
        return (
            f"{cause}; this seems to be a container: start it with --security-opt seccomp=unconfined "
            f"--security-opt systempaths=unconfined, or with --privileged."
        )
    return (
        f"{cause}; user namespaces must be allowed for ordinary users by the kernel or its security module."
    )


def read_switches() -> dict[str, str]:
    """The values of those kernel switches that this machine has."""
    values: dict[str, str] = {}
    for name, _, _ in _SWITCHES:
        try:
            with open(f"/proc/sys/{name}") as opened:
                values[name] = opened.read().strip()
        except OSError:
            continue
    return values


def _in_container() -> bool:
    return os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv") or "container" in os.environ


def _run(argv: list[str], uid: int | None) -> subprocess.CompletedProcess[str]:
    dropped = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    try:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]  # noqa: S603 - the tool of the settings; overloads want each argument apart
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            **dropped,
        )
    except subprocess.TimeoutExpired:
        raise NamespacesRefused(f"bubblewrap did not end within {_DEADLINE_S:.0f} s.") from None
    except OSError as fault:
        raise SandboxToolMissing(f"{argv[0]} cannot be executed: {fault.strerror}.") from None


def main() -> int:
    """The exit status of this check."""
    try:
        configured = os.environ.get("PYDRA_BUBBLEWRAP", "")
        probe(find_bubblewrap(configured), None if os.geteuid() else _NOBODY)
    except SandboxError as fault:
        sys.stderr.write(f"{fault}\n")
        return MISSING if isinstance(fault, SandboxToolMissing) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
