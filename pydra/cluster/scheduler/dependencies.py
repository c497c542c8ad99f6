# SPDX-License-Identifier: MIT
"""What has to end before what: the conditions of each instance, and who waits for the end of whom."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Ended
from pydra.model.options import Dependency, RunOptions
from pydra.model.status import Status

_HOW = {Status.COMPLETE: "completed", Status.FAILED: "failed", Status.CANCELLED: "was cancelled"}

_SHOWN = 5
"""Numbers that a sentence names."""


@attrs.define(eq=False)
class Condition:
    """One dependency of one instance, and how far it is met."""

    dependency: Dependency
    is_place: bool
    """It is a ``follow``: the nodes count too."""
    open: set[InstanceId] = attrs.field(init=False)
    """Those that have not ended."""
    seen: dict[InstanceId, Status] = attrs.field(factory=dict, init=False)
    """How the others ended."""
    met_by: int = attrs.field(default=0, init=False)
    nodes: frozenset[NodeId] | None = attrs.field(default=None, init=False)
    """Of a ``follow``: where those ran that ended as wanted; on all of their nodes, or on one of them."""
    fault: str = attrs.field(default="", init=False)
    """Why it can be met no more; a sentence without its full stop."""

    def __attrs_post_init__(self) -> None:
        self.open = set(self.dependency.instances)

    @property
    def is_met(self) -> bool:
        """True if the instance may run, as far as this goes."""
        return not self.fault and bool(self.met_by if not self.dependency.all else not self.open)

    def is_wanted(self, status: Status) -> bool:
        """An end that will do."""
        return self.dependency.success if status is Status.COMPLETE else self.dependency.failure

    def take(self, instance: InstanceId, ended: Ended) -> None:
        """One of them ended."""
        self.open.discard(instance)
        self.seen[instance] = ended.status
        wanted = self.is_wanted(ended.status)
        if wanted and self.is_place and ended.node is None:
            self._spoil(f"task instance {instance}, which it was to follow, never ran")
        elif not wanted:
            self._spoil(
                f"task instance {instance} {_HOW[ended.status]}, and {self._verb} only if that {self._wish}"
            )
        else:
            self.met_by += 1
            if self.is_place and ended.node is not None:
                self._add_node(ended.node)

    def miss(self, instance: InstanceId) -> None:
        """One of them never was."""
        self.open.discard(instance)
        self._spoil(f"there is no task instance {instance}")

    def _add_node(self, node: NodeId) -> None:
        here = frozenset((node,))
        if self.nodes is None:
            self.nodes = here
        elif not self.dependency.all:
            self.nodes |= here
        elif not self.nodes & here:
            named = numbers(self.dependency.instances)
            self.fault = f"the task instances {named}, which it was to follow, ran on different nodes"

    def _spoil(self, why: str) -> None:
        """One of them does not meet it; without it another one may."""
        if self.dependency.all:
            self.fault = self.fault or why
        elif not self.open and not self.met_by:
            named = numbers(self.dependency.instances)
            self.fault = f"{self._verb} only if one of the task instances {named} {self._wish}; none did"

    @property
    def _verb(self) -> str:
        return "it follows" if self.is_place else "it runs"

    @property
    def _wish(self) -> str:
        if self.dependency.success and self.dependency.failure:
            return "ended"
        return "completed" if self.dependency.success else "failed"


class Dependencies:
    """The conditions of all instances that have some, as long as these are not final."""

    def __init__(self) -> None:
        self._conditions: dict[InstanceId, tuple[Condition, ...]] = {}
        self._watchers: dict[InstanceId, dict[InstanceId, None]] = {}
        """Who has a condition that an instance is open in, in the order in which they came."""

    def add(self, instance: InstanceId, options: RunOptions) -> tuple[Condition, ...]:
        """The conditions of an instance, nothing of them known yet."""
        pairs = ((options.after, False), (options.follow, True))
        conditions = tuple(Condition(one, is_place) for one, is_place in pairs if one is not None)
        self._conditions[instance] = conditions
        return conditions

    def watch(self, instance: InstanceId) -> None:
        """It is to be told of the ends that its conditions are open for."""
        for condition in self._conditions[instance]:
            for other in condition.open:
                self._watchers.setdefault(other, {})[instance] = None

    def conditions(self, instance: InstanceId) -> Sequence[Condition]:
        """Those of an instance; none if it has none."""
        return self._conditions.get(instance, ())

    def is_watched(self, instance: InstanceId) -> bool:
        """Somebody waits for its end."""
        return instance in self._watchers

    def take(self, instance: InstanceId, ended: Ended) -> Collection[InstanceId]:
        """An instance ended; those whose conditions this concerned."""
        watchers = self._watchers.pop(instance, {})
        for watcher in watchers:
            for condition in self._conditions[watcher]:
                if instance in condition.open:
                    condition.take(instance, ended)
        return watchers

    def forget(self, instance: InstanceId) -> None:
        """It is final: what it waited for does not matter any more."""
        for condition in self._conditions.pop(instance, ()):
            for other in condition.open:
                watchers = self._watchers.get(other, {})
                watchers.pop(instance, None)
                if not watchers:
                    self._watchers.pop(other, None)

    def fault(self, instance: InstanceId) -> str:
        """Why it can never run; empty if it may."""
        return next((each.fault for each in self.conditions(instance) if each.fault), "")

    def are_met(self, instance: InstanceId) -> bool:
        """True if it may run."""
        return all(condition.is_met for condition in self.conditions(instance))

    def nodes(self, instance: InstanceId) -> frozenset[NodeId] | None:
        """The nodes that it may run on; None if it follows nobody."""
        return next((each.nodes for each in self.conditions(instance) if each.is_place), None)

    def watched(self) -> dict[InstanceId, set[InstanceId]]:
        """Who watches whom; for the invariants."""
        return {instance: set(watchers) for instance, watchers in self._watchers.items()}

    def holders(self) -> Collection[InstanceId]:
        """All that have conditions; for the invariants."""
        return self._conditions.keys()


def numbers(instances: Sequence[InstanceId]) -> str:
    """Their numbers in a sentence; only the first of many."""
    shown = [str(instance) for instance in instances[:_SHOWN]]
    if len(instances) > _SHOWN:
        return f"{', '.join(shown)} and {len(instances) - _SHOWN} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
