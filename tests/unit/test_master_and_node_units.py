# SPDX-License-Identifier: MIT
"""Units through a master and a node whose link breaks at the worst moment: recorded once, given once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.wire import frames
from pydra.model.ids import InstanceId
from tests.support.unit_world import UnitWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[UnitWorld]:
    """Instance 1 runs, and has asked for three units; two hired workers have one each."""
    world = UnitWorld(tmp_path)
    world.plug()
    world.cable.settle()
    world.submit()
    world.cable.settle()
    world.ask(world.working()[0], 3)
    world.advance(0.1)
    assert 2 == len(world.hired())
    yield world
    world.drain()
    assert 3 == len(world.rows)
    world.close()


def link_again(world: UnitWorld) -> None:
    """The link breaks, and is there again."""
    world.cable.pull()
    world.plug()
    world.cable.settle()


def runs(world: UnitWorld) -> int:
    """How many units were run in all, some perhaps more than once."""
    return sum(map(len, world.ran.values()))


def test_results_lost_on_their_way_to_the_asker(world: UnitWorld) -> None:
    """What was recorded is given when it is asked for again, and not computed again."""
    [root] = world.working()
    for worker in world.hired():
        world.run(worker, 1)
    world.clock.advance(0.1)
    world.cable.node.deliver()
    assert 2 == len(world.stored(InstanceId(1))["Sub"])
    link_again(world)
    world.advance(0.1)
    assert 1 == len(world.unanswered(root))
    assert 2 == runs(world)


def test_results_while_they_are_looked_up(world: UnitWorld) -> None:
    """What is recorded while the store is slow to answer is given once, and not computed again."""
    [root] = world.working()
    world.store.hold_reads()
    link_again(world)
    for worker in world.hired():
        world.run(worker, 1)
    world.advance(0.1)
    assert 1 == len(world.unanswered(root))
    world.store.release_reads()
    world.advance(0.1)
    world.check()
    assert 2 == runs(world)
    for worker in world.hired():
        world.run(worker, 9)
    world.advance(0.1)
    assert set() == world.unanswered(root)
    assert 3 == runs(world)


def test_results_of_meanwhile(world: UnitWorld) -> None:
    """What was computed without a master is recorded by the next one, and not computed again."""
    [root] = world.working()
    world.cable.pull()
    for worker in world.hired():
        world.run(worker, 1)
    world.restart_master(lose_commits=False)
    world.plug()
    world.advance(0.1)
    assert 1 == len(world.unanswered(root))
    assert 2 == runs(world)


def test_a_result_that_the_disk_of_the_node_lost(world: UnitWorld) -> None:
    """Its worker is ended by that, and the unit is run by another; the link is broken once, and no more."""
    spoilt, other = world.hired()
    current = world.current(spoilt)
    assert current is not None
    world.cable.pull()
    spoilt.says(frames.DONE, current[0], current[2], [bytes(100_000)], {}, 0.001)
    world.run(other, 1)
    [blob] = [path for path in world.node.journal.directory.iterdir() if len(path.name) == 64]
    blob.unlink()
    world.plug()
    world.cable.settle()
    assert not world.cable.is_up
    assert spoilt.is_killed
    world.plug()
    world.advance(0.1)
    assert world.cable.is_up
    assert not other.is_killed
    for worker in world.hired():
        world.run(worker, 9)
    world.advance(0.1)
    assert set() == world.unanswered(world.working()[0])
    assert 3 == runs(world)
