# SPDX-License-Identifier: MIT
"""Nodes, workers and tasks as the scheduler meets them, without a network: for its property tests."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

import attrs

from pydra.cluster.scheduler.inputs import NodeReady
from pydra.cluster.scheduler.unit_values import BatchHeld, RunUnits, UnitsAsked, WorkerHeld
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.unit import DIGEST_SIZE


def digest(instance: InstanceId, branch: str, index: int, version: int = 0) -> bytes:
    """That of a unit's arguments; another version has others."""
    return blake2b(f"{instance}/{branch}:{index}/{version}".encode(), digest_size=DIGEST_SIZE).digest()


@attrs.define(eq=False)
class Job:
    """What an instance does: how many units its root asks for, and how many each of those asks for."""

    instance: InstanceId
    units: int
    nested: int = 0
    depth: int = 1
    is_session: bool = False
    asked: int = 0
    """By the client of a session."""


@attrs.define(eq=False)
class Ask:
    """Units of a branch that somebody waits for; those before ``next`` were asked for."""

    branch: str
    total: int
    next: int = 0
    open: set[int] = attrs.Factory(set)

    @property
    def is_over(self) -> bool:
        """All of them were answered."""
        return self.next == self.total and not self.open


@attrs.define(eq=False)
class Run:
    """A batch on a node: it ran units before ``ran``, and told results of those before ``told``."""

    batch: Attempt
    branch: str
    indexes: list[int]
    digests: bytes
    ran: int = 0
    told: int = 0
    recorded: int = 0


@attrs.define(eq=False)
class Process:
    """A worker: a main one if it runs no batches."""

    attempt: Attempt
    instance: InstanceId
    index: int
    ask: Ask | None = None
    """Of the unit that it runs, or of the root."""
    runs: deque[Run] = attrs.Factory(deque)
    is_dead: bool = False
    """Of a hired one only results are left."""

    @property
    def current(self) -> Run | None:
        """The batch of which it runs a unit."""
        return next((run for run in self.runs if run.ran < len(run.indexes)), None)


@attrs.define(eq=False)
class SimNode:
    """A node with its processes; it is linked to the master or not."""

    id: NodeId
    slots: int
    is_linked: bool = False
    roots: dict[Attempt, Process] = attrs.Factory(dict)
    hired: dict[Attempt, Process] = attrs.Factory(dict)
    ended: dict[Attempt, str] = attrs.Factory(dict)
    """Outcomes of roots that are not acknowledged."""

    def hello(self) -> NodeReady:
        """What it says when it is linked."""
        return NodeReady(
            self.id,
            self.slots,
            running=tuple(self.roots),
            finished=tuple(self.ended),
            workers=tuple(
                WorkerHeld(each.attempt, each.instance, each.index)
                for each in self.hired.values()
                if not each.is_dead
            ),
            batches=tuple(
                BatchHeld(
                    run.batch, each.attempt, each.instance, run.branch, run.indexes, run.digests, run.recorded
                )
                for each in self.hired.values()
                for run in each.runs
            ),
        )

    def held(self) -> tuple[Attempt, ...]:
        """What it names in a heartbeat."""
        living = [each.attempt for each in self.hired.values() if not each.is_dead]
        return (*self.roots, *self.ended, *living)

    def asks_again(self) -> list[UnitsAsked]:
        """What its workers still wait for, as it asks after each hello."""
        return [
            asked(each.instance, each.attempt, each.ask.branch, sorted(each.ask.open))
            for each in (*self.roots.values(), *self.hired.values())
            if each.ask is not None and each.ask.open and not each.is_dead
        ]

    def take(self, sent: RunUnits) -> None:
        """A batch came for one of its workers."""
        process = self.hired.get(sent.worker)
        if process is not None and not process.is_dead:
            process.runs.append(Run(sent.batch, sent.branch, sent.indexes, sent.digests))


def asked(instance: InstanceId, asker: Attempt | None, branch: str, indexes: list[int]) -> UnitsAsked:
    """The input; the arguments of a unit are its path."""
    args = [f"{branch}:{index}".encode() for index in indexes]
    digests = b"".join(digest(instance, branch, index) for index in indexes)
    return UnitsAsked(instance, asker, branch, indexes, args, digests)
