# SPDX-License-Identifier: MIT
"""What an instance has beyond its root: branches of units, hired workers, and batches that these run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import attrs

from pydra.cluster.scheduler.wishes import Wish
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Payload
from pydra.model.options import Guarantee
from pydra.model.unit import DIGEST_SIZE

Item = TypeVar("Item")


class Levels(Generic[Item]):
    """Items in the order in which they came, by a small number each."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[Item, None]] = {}
        self._level: dict[Item, int] = {}

    def __len__(self) -> int:
        return len(self._level)

    def __contains__(self, item: object) -> bool:
        return item in self._level

    def add(self, level: int, item: Item) -> None:
        """It is there, at this level; at the end, unless it is at this level already."""
        if self._level.get(item) != level:
            self.discard(item)
            self._level[item] = level
            self._levels.setdefault(level, {})[item] = None

    def put_last(self, item: Item) -> None:
        """It is there, and the others of its level come before it; KeyError if it is not there."""
        items = self._levels[self._level[item]]
        del items[item]
        items[item] = None

    def discard(self, item: Item) -> None:
        """It is not there."""
        level = self._level.pop(item, None)
        if level is not None:
            items = self._levels[level]
            del items[item]
            if not items:
                del self._levels[level]

    def highest(self) -> int | None:
        """The highest level that has anything; there are few levels."""
        return max(self._levels, default=None)

    def first(self, level: int) -> Item:
        """What came first to a level; KeyError if it has nothing."""
        return next(iter(self._levels[level]))

    def find(self, most: int, accepts: Callable[[Item], bool]) -> Item | None:
        """
        The first that is accepted, higher levels first, none above ``most``.

        What is not accepted is there no more: whoever makes it acceptable adds it again.
        """
        for level in sorted(self._levels, reverse=True):
            while level <= most and level in self._levels:
                item = self.first(level)
                if accepts(item):
                    return item
                self.discard(item)
        return None


@attrs.define(eq=False)
class Chunk:
    """Units as they were asked for; those before position ``at`` are given out."""

    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: Mapping[int, Payload]
    time_limit: float
    is_solo: bool = False
    """A worker was lost with them: they run in batches of one, so that it is known which one is to blame."""
    at: int = 0
    guarantee: Guarantee = Guarantee.NONE
    """With one, they run in batches of one too, and no other batch waits behind them."""


@attrs.define(eq=False)
class Asker:
    """
    Who waits for units: the main worker of an instance (or the client of a session), or a hired worker.

    While it waits it lends its slot to ``lendee``, a further worker of its instance.
    """

    crew: Crew
    attempt: Attempt | None
    """Results go to this worker; None for the client of a session."""
    branches: dict[str, Branch] = attrs.field(factory=dict, init=False)
    units: int = attrs.field(default=0, init=False)
    """What it waits for."""
    size: int = attrs.field(default=0, init=False)
    """Bytes of their arguments; those of a batch count until its end."""
    lendee: Hired | None = attrs.field(default=None, init=False)

    @property
    def depth(self) -> int:
        """How many levels of units are above it: 0 for the main worker, more for nested ones."""
        return 0

    @property
    def upper(self) -> Asker | None:
        """Who lends it the slot that it is on; None if the slot is its own."""
        return None


@attrs.define(eq=False)
class Hired(Asker):
    """A further worker of an instance. A gone one only has results that are still to come."""

    attempt: Attempt
    node: NodeId
    index: int
    lender: Asker | None
    named: float
    """When the node last named it, or when it was hired."""
    wish: Wish
    batches: deque[Batch] = attrs.field(factory=deque, init=False)
    """In the order in which it runs them."""
    is_gone: bool = False

    @property
    def instance(self) -> InstanceId:
        """The one that it is of."""
        return self.crew.instance

    @property
    def depth(self) -> int:
        """That of the units which it runs."""
        return self.batches[0].branch.depth if self.batches else 1

    @property
    def upper(self) -> Asker | None:
        """Who lends it its slot."""
        return self.lender

    @property
    def is_on_own_slot(self) -> bool:
        """True if nobody lends it its slot."""
        return self.lender is None and not self.is_gone

    @property
    def level(self) -> int:
        """The least depth of units that it may run: so no slot has more workers than there are levels."""
        return 1 if self.lender is None else self.lender.depth + 1


@attrs.define(eq=False)
class Batch:
    """Units of one branch that a hired worker has; those before position ``done`` have results."""

    attempt: Attempt
    worker: Hired
    branch: Branch
    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: Mapping[int, Payload]
    time_limit: float
    size: int
    """Bytes of the arguments."""
    done: int = 0
    lacking: set[int] = attrs.Factory(set)
    """Positions without arguments: another master gave out the batch, and they were not asked for since."""
    guarantee: Guarantee = Guarantee.NONE

    def columns(self, start: int, end: int) -> tuple[list[int], bytes]:
        """The indexes and digests of these positions."""
        return self.indexes[start:end], self.digests[start * DIGEST_SIZE : end * DIGEST_SIZE]


@attrs.define(eq=False)
class Branch:
    """
    Units of one subtask, asked for by one asker; without one nobody waits for them any more.

    ``outstanding`` are those that are queued or in a batch without a result. All of a branch is of lists and
    slices of them, since units come by the ten thousand.
    """

    crew: Crew
    name: str
    depth: int = attrs.field(init=False)
    """Of how many levels of units it is the last; its name says so, whether its asker is known or not."""
    asker: Asker | None = attrs.field(default=None, init=False)
    chunks: deque[Chunk] = attrs.field(factory=deque, init=False)
    queued: int = attrs.field(default=0, init=False)
    outstanding: set[int] = attrs.field(factory=set, init=False)
    batches: dict[Attempt, Batch] = attrs.field(factory=dict, init=False)
    losses: dict[int, int] = attrs.field(factory=dict, init=False)
    """How many workers were lost with a unit, for the few that there are."""
    size: int = attrs.field(default=0, init=False)
    """Bytes of arguments of what its asker waits for, as in the asker."""
    unit_s: float | None = None
    """Seconds that a unit takes, as a moving average; None before any was measured."""
    is_stale: bool = False
    """Its units were asked for again with other arguments, so their results are not recorded."""
    aside: dict[int, Chunk] = attrs.field(factory=dict, init=False)
    """Units that wait for the end of an earlier attempt of theirs, each in a chunk of its own."""

    def __attrs_post_init__(self) -> None:
        self.depth = 1 + self.name.count("/")


@attrs.define(eq=False)
class Crew:
    """The hired workers of an instance and what they are for."""

    instance: InstanceId
    priority: int
    queued_at: float
    main: Asker = attrs.field(init=False)
    is_session: bool = False
    guarantee: Guarantee = Guarantee.NONE
    """Of all its units."""
    branches: dict[str, Branch] = attrs.Factory(dict)
    """All but the stale ones; whose asker is gone or forgot them have batches under way."""
    workers: dict[Attempt, Hired] = attrs.Factory(dict)
    queued: int = 0
    """Units in all branches."""
    paces: dict[str, float] = attrs.Factory(dict)
    """``unit_s`` of the last branches of which nothing was left."""
    ready: Levels[Branch] = attrs.Factory(Levels)
    """Branches that have queued units, by depth; those of one depth take turns."""
    able: Levels[Hired] = attrs.Factory(Levels)
    """Workers without a batch, by level; that one may be given none now is seen when it is tried."""
    short: Levels[Hired] = attrs.Factory(Levels)
    """The same for those that have one quick batch and may be given another."""
    lenders: Levels[Asker] = attrs.Factory(Levels)
    """The same for askers that may lend their slot and do not, by the level that a lendee would have."""
    idle: dict[Hired, float] = attrs.Factory(dict)
    """Workers without a batch, and since when; longest first."""
    brisk: dict[Hired, float] = attrs.Factory(dict)
    """
    Workers with a first batch of quick units, and since when, or when it last had a result; longest first.

    They are soon free again. One that is not, after all, is none of these as soon as somebody looks.
    """

    def __attrs_post_init__(self) -> None:
        self.main = Asker(self, None)
