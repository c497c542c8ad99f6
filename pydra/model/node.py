# SPDX-License-Identifier: MIT
"""A node as the master knows it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pydra.model.ids import NodeId
from pydra.model.options import MOST_LABELS, MOST_RESOURCES, Amount, Label, ResourceName

SLOTS_LIMIT = 4096
"""Worker slots of one node."""

ISOLATIONS = ("none", "user", "full")
"""What keeps a task in, from the weakest to the strongest: no sandbox; one uid; a uid for each slot."""


class NodeInformation(msgspec.Struct, frozen=True):
    """What a node says of its machine; memory in MB, ``stones`` is the CPU figure of the original."""

    cores: int
    total_memory: int
    avail_memory: int
    stones: int
    isolation: str
    """One of ``ISOLATIONS``."""
    version: str
    """Version of Pydra that the node runs."""
    python: str
    platform: str
    labels: Annotated[tuple[Label, ...], Meta(max_length=MOST_LABELS)] = ()
    """What its site says of it; sorted."""
    resources: Annotated[dict[ResourceName, Amount], Meta(max_length=MOST_RESOURCES)] = {}
    """What it offers its workers, by name; memory in MB."""


class Node(msgspec.Struct, frozen=True):
    """A node that the master is paired with."""

    id: NodeId
    host: str
    port: int
    fingerprint: str
    """SHA-256 of the node's public key; see ``pydra.cluster.auth.identity``."""
    slots: int = 0
    """Worker slots that it offers; 0 until it was seen."""
    information: NodeInformation | None = None
    seen: float | None = None
    deleted: bool = False
