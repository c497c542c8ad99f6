# SPDX-License-Identifier: MIT
"""Sessions on a real cluster: every unit has its result once, whoever is killed or goes away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import pytest

from benchmarks.session_client import SessionClient, SessionError
from pydra.cluster.controller.session_messages import Refused, Units
from pydra.model.status import Status
from tests.support.daemons import Cluster, running_cluster, wait_until
from tests.support.detached_cluster import DetachedCluster

PACKAGES = Path(__file__).parent.parent / "packages"
DOUBLE = "fed.fed_tasks.Double"
MOODY = "fed.fed_tasks.Moody"

Connect = Callable[[], SessionClient]


def numbers(*wanted: int, seconds: float = 0.0) -> list[bytes]:
    """The arguments of units that double these numbers."""
    return [msgpack.packb({"n": number} | ({"seconds": seconds} if seconds else {})) for number in wanted]


def mood(what: object, n: float = 0) -> bytes:
    """The arguments of a moody unit."""
    packed: bytes = msgpack.packb({"what": what, "n": n})
    return packed


def result(client: SessionClient, index: int) -> Any:
    """What came of a unit: the result, or (code, message, traceback)."""
    told = client.results[index]
    return msgpack.unpackb(told) if isinstance(told, bytes) else told


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with two workers; clients may be away for a second, and for five more."""
    times = {"PYDRA_SESSION_GRACE_S": "1", "PYDRA_SESSION_KEEP_S": "5"}
    directory = tmp_path_factory.mktemp("session") / "c"
    with running_cluster(directory, "--workers", "2", **times) as made:
        made.put_package("fed", PACKAGES / "fed")
        made.wait_listed(DOUBLE)
        yield made


@pytest.fixture
def connect(cluster: Cluster) -> Iterator[Connect]:
    """A function that makes a client, logged in, with a socket."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SessionClient(cluster.host, cluster.port, cluster.ready["key"]))


def test_ten_thousand_units_are_run_and_recorded(cluster: Cluster, connect: Connect) -> None:
    """Each has its own result; the instance ends complete, with the counts."""
    client = connect()
    instance = client.open(DOUBLE)
    client.run(0, numbers(*range(10_000)))
    assert {index: 2 * index for index in range(10_000)} == {
        index: result(client, index) for index in client.results
    }
    assert set(range(10_000)) == client.stored
    ended = client.close()

    assert (Status.COMPLETE, 10_000, 0, 0) == (ended.status, ended.complete, ended.failed, ended.queued)
    outcome = cluster.wait_final(instance)
    assert {"complete": 10_000, "failed": 0, "queued": 0} == outcome["result"]
    with cluster.controller() as controller:
        (shown,) = [
            each for each in controller.task_history("pydra.session")["instances"] if each["id"] == instance
        ]
        assert [] == controller.list_queue()
    assert {"task": DOUBLE} == json.loads(shown["args"])


def test_units_fail_die_and_are_large(connect: Connect) -> None:
    """An exception, a worker that dies for ever, large arguments and results: each is told for its unit."""
    client = connect()
    client.open(MOODY, unit_time_limit=20)
    client.run(
        0,
        [mood("fine"), mood("raise", 7), mood("die"), mood("large", 200_000), mood(b"y" * 300_000)],
        at_once=1,
    )
    client.close()

    assert "fine" == result(client, 0)
    code, message, traceback = result(client, 1)
    assert ("failed", True, True) == (code, "no 7" in message, "Traceback" in traceback)
    assert "worker_died" == result(client, 2)[0]
    assert b"x" * 200_000 == result(client, 3)
    assert 300_000 == result(client, 4)


def test_the_time_limit_of_units_holds(connect: Connect) -> None:
    """A unit that takes longer fails, and those after it run."""
    client = connect()
    client.open(MOODY, unit_time_limit=0.5)
    client.run(0, [mood("sleep", 30), mood("fine")], at_once=1)
    client.close()

    assert "limit" == result(client, 0)[0]
    assert "fine" == result(client, 1)


def test_a_client_vanishes_and_attaches_again(cluster: Cluster, connect: Connect) -> None:
    """What ended meanwhile is told from the store; also after the grace, when its workers were given back."""
    client = connect()
    instance = client.open(DOUBLE)
    client.send(0, numbers(*range(30), seconds=0.2))
    while len(client.stored) < 30:
        client.take()
    client.vanish()
    with cluster.controller() as controller:
        put_off = wait_until(
            lambda: controller.task_history_detail(instance)["details"]["units"],
            lambda units: units["complete"] and not units["queued"] and not units["running"],
            what="its units put off",
        )
    assert put_off["complete"] < 30
    again = connect()
    again.waiting = dict.fromkeys(range(30), b"")
    assert [] == again.attach(instance, range(30))
    while again.waiting:
        again.take()

    assert [2 * index for index in range(30)] == [result(again, index) for index in range(30)]
    assert 30 == again.close().complete


def test_a_session_without_a_client_ends(cluster: Cluster, connect: Connect) -> None:
    """After the grace and the time that is kept it is cancelled; what was recorded stays."""
    client = connect()
    instance = client.open(DOUBLE)
    client.one(0, numbers(1)[0])
    client.vanish()
    outcome = cluster.wait_final(instance)

    assert "cancelled" == outcome["state"]
    again = connect()
    with pytest.raises(SessionError):
        again.attach(instance, [0])
    assert again.ended is not None
    assert (Status.CANCELLED, 1) == (again.ended.status, again.ended.complete)


def test_the_slots_of_a_session_without_a_client_are_free(cluster: Cluster, connect: Connect) -> None:
    """Two instances run at the same time on two slots after the grace, long before it is cancelled."""
    client = connect()
    session = client.open(DOUBLE)
    client.one(0, numbers(1)[0])
    client.vanish()
    with cluster.controller() as controller:
        others = [controller.run_tasks(DOUBLE, n=1, seconds=4) for _ in range(2)]
        outcomes = [cluster.wait_final(each) for each in (*others, session)]
        times = [controller.task_history_detail(each)["details"] for each in (*others, session)]

    assert ["complete", "complete", "cancelled"] == [each["state"] for each in outcomes]
    assert max(each["started"] for each in times[:2]) < min(each["completed"] for each in times)


def test_a_session_is_cancelled(cluster: Cluster, connect: Connect) -> None:
    """cancel_task ends it while units run; the client hears it, and the slots are free."""
    client = connect()
    instance = client.open(DOUBLE)
    client.send(0, numbers(*range(50), seconds=5))
    while not client.stored:
        client.take()
    with cluster.controller() as controller:
        assert controller.cancel_task(instance)
        assert (1000, "The session has ended.") == client.take_until_closed()
        assert client.ended is not None
        assert Status.CANCELLED == client.ended.status
        wait_until(controller.list_queue, lambda queue: not queue)
    other = connect()
    other.open(DOUBLE)
    other.one(0, numbers(4)[0])
    assert 8 == result(other, 0)
    other.close()


def test_what_is_wrong_is_said_in_words(connect: Connect) -> None:
    """An unknown task, an unknown option, an instance that is no session, and units before a session."""
    for message, words in (
        (lambda client: client.open("fed.fed_tasks.Nothing"), "There is no task"),
        (lambda client: client.open(DOUBLE, colour="red"), "colour"),
        (lambda client: client.attach(10**9), "There is no session"),
    ):
        with pytest.raises(SessionError, match=words):
            message(connect())  # type: ignore[no-untyped-call]
    client = connect()
    client.say(Units(0, numbers(1)))
    assert 1008 == client.take_until_closed()[0]


def test_beyond_the_window_the_master_waits(connect: Connect) -> None:
    """A client that sends more than it may is not served faster, and loses nothing."""
    client = connect()
    client.open(DOUBLE)
    client.say(Units(50_000, numbers(*range(10_001))))
    assert isinstance(refused := client.take(), Refused)
    assert "limit" == refused.code
    for first in range(0, 15_000, 1_000):
        client.send(first, numbers(*range(first, first + 1_000)))
    while client.waiting:
        client.take()

    assert [2 * index for index in range(15_000)] == [result(client, index) for index in range(15_000)]
    client.close()


def test_two_clients_want_one_session(connect: Connect) -> None:
    """The latest has it; a repeated open with the same key is the same session."""
    first, second = connect(), connect()
    key = "0123456789abcdef0123456789abcdef"
    instance = first.open(DOUBLE, key)

    assert instance == second.open(DOUBLE, key)
    assert "taken" in first.take_until_closed()[1]
    second.close()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x82\xff" + b"\xff" * 8])
def test_garbage_ends_the_socket_alone(cluster: Cluster, connect: Connect, data: bytes) -> None:
    """What is no WebSocket is closed with 1002, and the session waits for its client."""
    client = connect()
    instance = client.open(DOUBLE)
    client.send_raw(data)
    assert 1002 == client.take_until_closed()[0]
    again = connect()
    again.attach(instance)
    assert Status.COMPLETE == again.close().status


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[DetachedCluster]:
    """One node with two workers, whose daemons may be killed."""
    cluster = DetachedCluster(tmp_path / "c", "fed", DOUBLE, workers=2)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def attached(detached: DetachedCluster) -> Iterator[Connect]:
    """A function that makes a client of that cluster, wherever its master is."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SessionClient(detached.host, detached.port, detached.key))


ARGS = numbers(*range(10_000), seconds=0.0005)
RESULTS = [2 * index for index in range(10_000)]


def in_the_middle(client: SessionClient) -> None:
    """All units are sent, and some have results."""
    for first in range(0, 10_000, 500):
        client.send(first, ARGS[first : first + 500])
    while len(client.results) < 2_000:
        client.take()


def test_a_killed_master_costs_nothing_that_was_acknowledged(
    detached: DetachedCluster, attached: Connect
) -> None:
    """In the middle of ten thousand units; after the client attached again each has one result."""
    client = attached()
    instance = client.open(DOUBLE)
    in_the_middle(client)
    detached.kill(detached.master)
    client.take_until_closed()
    acknowledged, told = set(client.stored), dict(client.results)
    detached.up()
    again = attached()
    again.waiting, again.results = client.waiting, client.results
    missing = again.attach(instance, list(client.waiting))
    assert not acknowledged & set(missing)
    for index in missing:
        again.send(index, [ARGS[index]])
    while again.waiting:
        again.take()
    ended = again.close()

    assert told.items() <= again.results.items()
    assert RESULTS == [result(again, index) for index in range(10_000)]
    assert (Status.COMPLETE, 10_000, 0, 0) == (ended.status, ended.complete, ended.failed, ended.queued)


def test_a_killed_node_costs_nothing(detached: DetachedCluster, attached: Connect) -> None:
    """The session goes on over the same socket, on the node that comes back."""
    client = attached()
    client.open(DOUBLE)
    in_the_middle(client)
    detached.kill(detached.node)
    detached.up()
    while client.waiting:
        client.take()

    assert RESULTS == [result(client, index) for index in range(10_000)]
    assert 10_000 == client.close().complete
