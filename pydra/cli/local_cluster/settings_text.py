# SPDX-License-Identifier: MIT
"""The settings files of a local cluster, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

LOCAL_HOST = "127.0.0.1"
HEAD = "# Written by `pydra cluster up`, which writes it anew each time.\n"

DECIDED_HERE = frozenset(
    {
        "PYDRA_SETTINGS",
        "PYDRA_HOST",
        "PYDRA_CONTROLLER_PORT",
        "PYDRA_CONTROLLER_KEY",
        "PYDRA_NODE_INTERFACE",
        "PYDRA_PORT",
        "PYDRA_NODES",
        "PYDRA_MASTER_FINGERPRINT",
        "PYDRA_RUNTIME_FILES_DIR",
        "PYDRA_TASKS_DIR",
        "PYDRA_LOG_DIR",
        "PYDRA_DATABASE",
        "PYDRA_WORKERS",
        "PYDRA_ISOLATION",
        "PYDRA_BUBBLEWRAP",
    }
)
"""Variables that would go before the files written here; the daemons do not get them."""


def settings_text(values: Mapping[str, object]) -> str:
    """Return a settings file with these constants; empty texts are left to their defaults."""
    return HEAD + "".join(f"{name} = {value!r}\n" for name, value in values.items() if value != "")


def client_settings(port: int, key: Path) -> str:
    """Return what a client of the cluster needs."""
    return settings_text({"HOST": LOCAL_HOST, "CONTROLLER_PORT": port, "CONTROLLER_KEY": str(key)})


def node_settings(
    name: str,
    runtime: Path,
    port: int,
    master_fingerprint: str,
    workers: int,
    isolation: str,
    bubblewrap: str,
) -> str:
    """Return the settings of a node that listens on this machine only; its name is its label."""
    return settings_text(
        {
            "NODE_INTERFACE": LOCAL_HOST,
            "PORT": port,
            "MASTER_FINGERPRINT": master_fingerprint,
            "RUNTIME_FILES_DIR": str(runtime),
            "WORKERS": workers,
            "LABELS": [name],
            "ISOLATION": isolation,
            "BUBBLEWRAP": bubblewrap,
        }
    )


def master_settings(
    runtime: Path,
    port: int,
    tasks: Path,
    nodes: Sequence[tuple[str, int, str]],
    isolation: str,
    bubblewrap: str,
) -> str:
    """Return the settings of a master of these nodes: host, port, fingerprint."""
    return settings_text(
        {
            "HOST": LOCAL_HOST,
            "CONTROLLER_PORT": port,
            "RUNTIME_FILES_DIR": str(runtime),
            "TASKS_DIR": str(tasks),
            "NODES": list(nodes),
            "ISOLATION": isolation,
            "BUBBLEWRAP": bubblewrap,
        }
    )
