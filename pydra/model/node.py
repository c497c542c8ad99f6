# SPDX-License-Identifier: MIT
"""A node as the master knows it."""

from __future__ import annotations

import msgspec

from pydra.model.ids import NodeId

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
