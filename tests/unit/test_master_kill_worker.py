# SPDX-License-Identifier: MIT
"""``kill_worker``: the worker that is named, how its instance ends, and what of that survives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from pydra.cluster.master.commands.nodes import NodeCommands
from pydra.cluster.master.roster import Roster
from pydra.cluster.wire.messages import FAILED, LOST, KillUnit, StopUnit
from pydra.errors import NotFound
from pydra.model.ids import Attempt, NodeId, WorkerKey
from pydra.model.instance import Failure
from pydra.model.node import Node
from pydra.model.status import Status
from tests.support.instances import node_record
from tests.support.masters import Heart

FIRST = Attempt(1, 1)
TERMINATED = Failure("terminated", "Terminated by user")


class OneNode:
    """What is used of a roster, with node 1 in it."""

    def nodes(self) -> list[Node]:
        """Node 1."""
        return [node_record(1)]

    def worker_key(self, node: NodeId, index: int) -> WorkerKey:
        """As a roster names it."""
        return WorkerKey(f"node{node}:11890:{index}")


@pytest.fixture
def heart() -> Iterator[Heart]:
    """Instance 1 runs in the first of two slots of node 1."""
    heart = Heart()
    heart.ready(slots=2)
    heart.running(1)
    yield heart
    heart.close()


def kill_worker(heart: Heart, worker_key: str, kill: bool = False, fail: bool = True) -> bool:
    """What the function answers."""
    commands = NodeCommands(cast(Roster, OneNode()), heart.scheduler, heart.dispatcher, 1, "full")
    return heart.result(commands.kill_worker(worker_key, kill, fail))


@pytest.mark.parametrize("worker_key", ["node1:11890:0", "1_0"])
@pytest.mark.parametrize(("kill", "order"), [(False, StopUnit(FIRST)), (True, KillUnit(FIRST))])
def test_it_fails_terminated_by_user(
    heart: Heart, worker_key: str, kill: bool, order: StopUnit | KillUnit
) -> None:
    """Both names of a slot are understood, and what the task itself says of its end does not count."""
    assert kill_worker(heart, worker_key, kill)
    assert [order] == heart.sent()
    assert (Status.CANCELLING, TERMINATED) == (heart.stored(1).status, heart.stored(1).failure)
    heart.finish(FIRST, FAILED, None, Failure("failed", "KeyError", "Traceback"))
    assert (Status.FAILED, TERMINATED) == (heart.stored(1).status, heart.stored(1).failure)


def test_it_is_cancelled_without_fail(heart: Heart) -> None:
    """Then there is no failure."""
    assert kill_worker(heart, "1_0", kill=True, fail=False)
    heart.finish(FIRST, LOST, None)
    assert (Status.CANCELLED, None) == (heart.stored(1).status, heart.stored(1).failure)


def test_an_idle_worker(heart: Heart) -> None:
    """There is nothing to end."""
    assert not kill_worker(heart, "1_1", kill=True)
    assert [] == heart.sent()


@pytest.mark.parametrize(
    "worker_key",
    ["", "1", "1_2", "1_-1", "1_00", "2_0", "node1:11890", "node1:11890:2", "x" * 10_000, "\x00"],
)
def test_no_such_worker(heart: Heart, worker_key: str) -> None:
    """A name that is none is told, shortened, and nothing is ended."""
    with pytest.raises(NotFound) as raised:
        kill_worker(heart, worker_key)
    assert 200 > len(str(raised.value))
    assert Status.RUNNING is heart.stored(1).status


@pytest.mark.parametrize(("fail", "status"), [(True, Status.FAILED), (False, Status.CANCELLED)])
def test_after_a_restart_it_still_ends_so(heart: Heart, fail: bool, status: Status) -> None:
    """The store knows how it is to end."""
    kill_worker(heart, "1_0", fail=fail)
    again = Heart(heart.store)
    again.dispatcher.restore([heart.stored(1)], {}, [], [])
    again.finish(FIRST, LOST, None)
    assert status is again.stored(1).status
    again.close()
