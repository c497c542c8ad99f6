# SPDX-License-Identifier: MIT
"""What an instance wants of the node that it runs on, as the scheduler compares it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from pydra.model.ids import NodeId
from pydra.model.options import NO_OPTIONS, Guarantee, RunOptions

THOUSANDTHS = 1000
"""Amounts of resources are whole numbers of thousandths, so that what is given back is what was taken."""

Amounts = tuple[tuple[str, int], ...]
"""Thousandths by the name of the resource, sorted; none is 0."""


class Requirement(msgspec.Struct, frozen=True):
    """What is asked of a node; instances with the same requirement wait in one line."""

    labels: frozenset[str] = frozenset()
    """All of them must be on the node."""
    resources: Amounts = ()
    """What each worker holds of the node's."""
    isolation: str = ""
    """``full`` if nothing less will do."""
    nodes: frozenset[NodeId] | None = None
    """One of them it must be; None if any may be."""


ANYWHERE = Requirement()


@attrs.frozen(eq=False)
class Wish:
    """How an instance is to be run, and what that asks of a node."""

    options: RunOptions
    requirement: Requirement
    guarantee: Guarantee = Guarantee.NONE
    """Of its root; that of a session does nothing that could not be done twice."""

    def only_on(self, nodes: frozenset[NodeId]) -> Wish:
        """The same, on no other node than these."""
        return attrs.evolve(self, requirement=msgspec.structs.replace(self.requirement, nodes=nodes))


NO_WISH = Wish(NO_OPTIONS, ANYWHERE)


def wish_of(options: RunOptions, isolation: str = "", *, is_session: bool = False) -> Wish:
    """The wish of an instance with these options whose package asks for this isolation."""
    if options is NO_OPTIONS and not isolation:
        return NO_WISH
    requirement = Requirement(frozenset(options.labels), amounts(options.resources), isolation)
    guarantee = Guarantee.NONE if is_session else options.guarantee
    return Wish(options, ANYWHERE if requirement == ANYWHERE else requirement, guarantee)


def amounts(resources: Mapping[str, float]) -> Amounts:
    """Resources in thousandths; less than one counts as one."""
    return tuple(
        (name, max(1, round(amount * THOUSANDTHS))) for name, amount in sorted(resources.items()) if amount
    )
