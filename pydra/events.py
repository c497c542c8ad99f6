# SPDX-License-Identifier: MIT
"""The facts of the event stream: what changed in the cluster, published after it was committed."""

from __future__ import annotations

import msgspec

from pydra.model.ids import InstanceId, NodeId, PackageName, PackageVersion
from pydra.model.status import Status


class InstanceChanged(msgspec.Struct, frozen=True, tag=True):
    """An instance has a new status."""

    instance: InstanceId
    status: Status


class InstanceProgressed(msgspec.Struct, frozen=True, tag=True):
    """A running instance told its progress: 0 to 100, or -1 for unknown."""

    instance: InstanceId
    percent: int
    message: str | None


class UnitsChanged(msgspec.Struct, frozen=True, tag=True):
    """So many units of a branch were recorded as complete, and as failed."""

    instance: InstanceId
    branch: str
    complete: int
    failed: int


class NodeChanged(msgspec.Struct, frozen=True, tag=True):
    """A node connected, disconnected or told news of itself."""

    node: NodeId
    connected: bool


class PackageChanged(msgspec.Struct, frozen=True, tag=True):
    """A version of a package was described and is now the current one; None if the package was removed."""

    package: PackageName
    version: PackageVersion | None


Event = InstanceChanged | InstanceProgressed | UnitsChanged | NodeChanged | PackageChanged
