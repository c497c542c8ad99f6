# SPDX-License-Identifier: MIT
"""Where a worker may go: for each requirement that is asked about, the nodes that meet it now."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydra.cluster.scheduler.nodes import NodeRecord
from pydra.cluster.scheduler.policies import MakePolicy, Policy
from pydra.cluster.scheduler.wishes import Requirement
from pydra.model.ids import NodeId

_SLACK = 64
"""Requirements that nobody waits with any more, and whose nodes are known all the same."""


class Placement:
    """
    A policy for each requirement, with the nodes that are ready, have a free slot and meet it.

    ``reconsider`` must be called after each change of a node. What changed is looked at once, when the next
    node is chosen, for each requirement: so a decision costs what the policy costs and one look for each
    requirement, whatever the number of nodes, slots and waiting instances. ``is_wanted`` says whether
    somebody waits with a requirement; the others are forgotten when there are many of them.
    """

    def __init__(self, make_policy: MakePolicy, is_wanted: Callable[[Requirement], bool]) -> None:
        self._make_policy = make_policy
        self._is_wanted = is_wanted
        self._policies: dict[Requirement, Policy] = {}
        self._most = _SLACK
        self._nodes: dict[NodeId, NodeRecord] = {}
        self._changed: dict[NodeId, NodeRecord] = {}

    @property
    def is_unchanged(self) -> bool:
        """No node changed since the last choice."""
        return not self._changed

    def reconsider(self, node: NodeRecord) -> None:
        """Something about the node changed: its standing, slots, resources, or what holds them."""
        self._changed[node.id] = node

    def choose(self, requirement: Requirement) -> NodeRecord | None:
        """The node that gets the next worker with this requirement; None if no node can take it now."""
        if self._changed:
            self._look()
        policy = self._policies.get(requirement)
        if policy is None:
            policy = self._make(requirement)
        return policy.choose()

    def known(self) -> Iterator[tuple[Requirement, set[NodeId]]]:
        """The nodes that meet each known requirement; for the invariants."""
        self._look()
        for requirement, policy in self._policies.items():
            yield requirement, set(policy.nodes())

    def _look(self) -> None:
        for node in self._changed.values():
            self._nodes[node.id] = node
            is_placeable = node.is_placeable
            for requirement, policy in self._policies.items():
                if is_placeable and node.meets(requirement):
                    policy.put(node)
                else:
                    policy.drop(node)
        self._changed.clear()

    def _make(self, requirement: Requirement) -> Policy:
        if len(self._policies) >= self._most:
            wanted = {one: policy for one, policy in self._policies.items() if self._is_wanted(one)}
            self._policies = wanted
            self._most = 2 * len(wanted) + _SLACK
        policy = self._policies[requirement] = self._make_policy()
        for node in self._nodes.values():
            if node.is_placeable and node.meets(requirement):
                policy.put(node)
        return policy
