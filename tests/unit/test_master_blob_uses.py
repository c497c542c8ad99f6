# SPDX-License-Identifier: MIT
"""Blobs that are only the arguments of units: they go when nothing needs them, and not before."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.master.payloads.uses import BlobUses
from pydra.model.ids import InstanceId
from pydra.model.instance import Payload
from tests.support.pumps import result_of

ONE, TWO = InstanceId(1), InstanceId(2)
A, B, STORED = "a" * 64, "b" * 64, "c" * 64


class Bench:
    """``removed`` lists what was removed, in order; a removal that was begun ends with ``end_removals``."""

    def __init__(self) -> None:
        self.removed: list[str] = []
        self._held: list[Deferred[None]] = []
        self.uses = BlobUses(self._remove, [STORED])

    async def _remove(self, sha256: str) -> None:
        self.removed.append(sha256)
        held: Deferred[None] = Deferred()
        self._held.append(held)
        await held

    def end_removals(self) -> None:
        """Removals that were begun are done."""
        held, self._held[:] = list(self._held), []
        for each in held:
            each.callback(None)

    def come(self, sha256: str) -> Deferred[None]:
        """A blob comes; fires when it may be written."""
        return Deferred.fromCoroutine(self.uses.hold(sha256))

    def take(self, instance: InstanceId, index: int, sha256: str) -> None:
        """A unit has this blob."""
        self.uses.take(instance, "Sub", [0, index], {1: Payload(70_000, sha256=sha256)})


@pytest.fixture
def bench() -> Bench:
    """Uses."""
    return Bench()


def test_arguments_go_when_the_unit_is_recorded(bench: Bench) -> None:
    """A blob that came for a unit goes when the unit is recorded."""
    result_of(bench.come(A))
    bench.take(ONE, 5, A)
    bench.uses.let_go(A)
    bench.uses.release(ONE, "Sub", [4])
    bench.uses.release(ONE, "Other", [5])
    bench.uses.release(TWO, "Sub", [5])
    assert [] == bench.removed
    bench.uses.release(ONE, "Sub", [4, 5])
    assert [A] == bench.removed


def test_a_blob_of_several_units(bench: Bench) -> None:
    """It goes with the last of them, and a unit that is asked for again counts once."""
    for index in (1, 1, 2):
        bench.take(ONE, index, A)
    bench.take(TWO, 1, A)
    bench.uses.release(ONE, "Sub", [1])
    bench.uses.release(TWO, "Sub", [1])
    assert [] == bench.removed
    bench.uses.release(ONE, "Sub", [2])
    assert [A] == bench.removed


def test_other_arguments(bench: Bench) -> None:
    """A unit that is asked for with other arguments needs the first ones no more."""
    bench.take(ONE, 1, A)
    bench.take(ONE, 1, B)
    assert [A] == bench.removed


def test_the_end_of_an_instance(bench: Bench) -> None:
    """All of its arguments go."""
    bench.take(ONE, 1, A)
    bench.take(ONE, 2, B)
    bench.take(TWO, 2, B)
    bench.uses.end(ONE)
    bench.uses.end(ONE)
    assert [A] == bench.removed


def test_what_the_store_names_stays(bench: Bench) -> None:
    """A blob that was ever named by something stored is never removed."""
    bench.take(ONE, 1, STORED)
    bench.take(ONE, 2, A)
    bench.uses.keep(A)
    bench.uses.end(ONE)
    assert [] == bench.removed


def test_what_came_and_was_never_named(bench: Bench) -> None:
    """It goes, unless a unit has it."""
    result_of(bench.come(A))
    bench.uses.let_go(A)
    assert [A] == bench.removed


def test_a_blob_that_comes_while_it_is_removed(bench: Bench) -> None:
    """It is written when the removal is done, and stays."""
    bench.take(ONE, 1, A)
    bench.uses.end(ONE)
    came = [bench.come(A), bench.come(A)]
    assert [False, False] == [each.called for each in came]
    bench.end_removals()
    assert [True, True] == [each.called for each in came]
    bench.take(ONE, 1, A)
    bench.uses.let_go(A)
    bench.uses.let_go(A)
    assert [A] == bench.removed
    result_of(bench.come(B))


def test_a_removal_that_fails(bench: Bench) -> None:
    """Who waits for it goes on."""
    bench.take(ONE, 1, A)
    bench.uses.end(ONE)
    came = bench.come(A)
    bench._held[0].errback(OSError("The disk is broken."))
    result_of(came)
