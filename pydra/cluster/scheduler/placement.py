# SPDX-License-Identifier: MIT
"""Where a worker may go: for each requirement that is asked about, the nodes that meet it now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from pydra.cluster.scheduler.nodes import NodeRecord, Standing
from pydra.cluster.scheduler.policies import MakePolicy, Policy
from pydra.cluster.scheduler.wishes import Requirement
from pydra.model.ids import NodeId

_SLACK = 64
"""Requirements that nobody waits with any more, and whose nodes are known all the same."""


class Placement:
    """
    A policy for each requirement, with the nodes that are ready, have a free slot and meet it.

    ``reconsider`` must be called after each change of a node. What changed is looked at once, when the next
    node is chosen, for those requirements that the node could meet at all: so a decision costs what the
    policy costs and one look for each of these, whatever the number of nodes, slots and waiting instances.
    ``is_wanted`` says whether somebody waits with a requirement; the others are forgotten when there are many
    of them.
    """

    def __init__(self, make_policy: MakePolicy, is_wanted: Callable[[Requirement], bool]) -> None:
        self._make_policy = make_policy
        self._is_wanted = is_wanted
        self._policies: dict[Requirement, Policy] = {}
        self._open: dict[Requirement, None] = {}
        """Those that a node meets now."""
        self._most = _SLACK
        self._nodes: dict[NodeId, NodeRecord] = {}
        self._changed: dict[NodeId, NodeRecord] = {}
        self._suited: dict[NodeId, tuple[int, dict[Requirement, Policy]]] = {}
        """What a node could meet if nothing ran on it, as long as it offers the same."""
        self._offered: dict[NodeId, tuple[int, bool]] = {}
        self._offers = 0

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

    @property
    def offers(self) -> int:
        """Rises when a node begins to take work or to take none, and when it offers other things."""
        if self._changed:
            self._look()
        return self._offers

    def is_possible(self, requirement: Requirement) -> bool:
        """A node could take it now if nothing ran there."""
        return any(_is_willing(node) and node.suits(requirement) for node in self._nodes.values())

    def met(self) -> Collection[Requirement]:
        """The requirements that were asked about and that a node meets now."""
        if self._changed:
            self._look()
        return self._open.keys()

    def known(self) -> Iterator[tuple[Requirement, set[NodeId]]]:
        """The nodes that meet each known requirement; for the invariants."""
        self._look()
        for requirement, policy in self._policies.items():
            yield requirement, set(policy.nodes())

    def _look(self) -> None:
        for node in self._changed.values():
            self._nodes[node.id] = node
            offer = (node.described, _is_willing(node))
            if self._offered.get(node.id) != offer:
                self._offered[node.id] = offer
                self._offers += 1
            is_placeable = node.is_placeable
            for requirement, policy in self._suiting(node).items():
                if is_placeable and not node.short_of(requirement.resources):
                    policy.put(node)
                    self._open[requirement] = None
                else:
                    self._drop(node, requirement, policy)
        self._changed.clear()

    def _drop(self, node: NodeRecord, requirement: Requirement, policy: Policy) -> None:
        policy.drop(node)
        if not policy.nodes():
            self._open.pop(requirement, None)

    def _suiting(self, node: NodeRecord) -> dict[Requirement, Policy]:
        """The policies that may have the node; it is taken out of the others when it offers other things."""
        described, suited = self._suited.get(node.id, (-1, {}))
        if described != node.described:
            for requirement, policy in self._policies.items():
                self._drop(node, requirement, policy)
            suited = {one: policy for one, policy in self._policies.items() if node.suits(one)}
            self._suited[node.id] = (node.described, suited)
        return suited

    def _make(self, requirement: Requirement) -> Policy:
        if len(self._policies) >= self._most:
            self._forget()
        policy = self._policies[requirement] = self._make_policy()
        for node in self._nodes.values():
            if node.suits(requirement):
                self._suiting(node)[requirement] = policy
                if node.is_placeable and not node.short_of(requirement.resources):
                    policy.put(node)
                    self._open[requirement] = None
        return policy

    def _forget(self) -> None:
        """Of requirements that nobody waits with, nothing is kept."""
        self._policies = {one: policy for one, policy in self._policies.items() if self._is_wanted(one)}
        self._open = {one: None for one in self._open if one in self._policies}
        for node, (described, suited) in self._suited.items():
            kept = {one: policy for one, policy in suited.items() if one in self._policies}
            self._suited[node] = (described, kept)
        self._most = 2 * len(self._policies) + _SLACK


def _is_willing(node: NodeRecord) -> bool:
    """It takes work, as far as slots and amounts do not matter."""
    return node.standing is Standing.READY and not node.refusal
