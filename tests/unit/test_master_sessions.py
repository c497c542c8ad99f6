# SPDX-License-Identifier: MIT
"""A session: units stored before they are acknowledged, results as they are committed, within a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller.session_messages import (
    Attach,
    Close,
    Ended,
    Open,
    Opened,
    Refused,
    Results,
    Stored,
    Units,
)
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.model.changes import InsertUnits
from pydra.model.instance import Failure, Payload
from pydra.model.status import Status
from tests.support.sessions import TASK, SessionsBench, asked, runs, units

KEY = "0123456789abcdef"
OTHERS = "These units were sent before, with other arguments."


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SessionsBench]:
    bench = SessionsBench(tmp_path)
    yield bench
    bench.close()


def test_a_session_is_opened_and_its_units_run(bench: SessionsBench) -> None:
    """Units are stored, run, and answered; the window is told."""
    wire = bench.connect()
    assert [Opened(1, 10_000, 64 * 2**20)] == wire.say(Open(TASK))

    assert [Stored([0, 1], 2), Stored([7], 1)] == wire.say(units(0, 1), units(7))
    assert [asked(0, 1), asked(7)] == runs(bench.dispatcher.take())
    bench.record(0, 7)
    assert [Results([0, 7], [b"r0", b"r7"])] == wire.heard()
    bench.record(1, failures={0: Failure("failed", "no", "Traceback")})
    assert [Results([1], [b"r1"], {0: ("failed", "no", "Traceback")})] == wire.heard()


def test_a_row_of_units_has_one_number(bench: SessionsBench) -> None:
    """The first index stands for all that follow it, in the acknowledgement too."""
    wire = bench.opened()

    assert [Stored(5, 3)] == wire.say(Units(5, [b"5", b"6", b"7"]))
    assert [asked(5, 6, 7)] == runs(bench.dispatcher.take())


def test_units_run_while_they_are_stored_and_are_acknowledged_after(bench: SessionsBench) -> None:
    """The scheduler has them at once; the client hears of it when they are on the disk."""
    wire = bench.opened()
    bench.store.hold()

    assert [] == wire.say(units(0))
    assert [asked(0)] == runs(bench.dispatcher.take())
    bench.store.release()
    assert [Stored([0], 1)] == wire.heard()


def test_a_store_that_refuses_is_asked_again(bench: SessionsBench) -> None:
    """Until the units are stored they are not acknowledged."""
    wire = bench.opened()
    bench.store.refuse("the disk is full")
    assert [] == wire.say(units(0))
    bench.clock.advance(0.2)
    assert [] == wire.heard()
    bench.store.accept()
    bench.clock.advance(0.4)

    assert [Stored([0], 1)] == wire.heard()


def test_the_time_limit_of_units_is_handed_on(bench: SessionsBench) -> None:
    """An option of the session, which a restart of the master does not forget."""
    wire = bench.opened(options={"unit_time_limit": 2.5})
    wire.say(units(0))
    bench.restart()
    bench.clock.advance(0)

    assert [2.5] == [each.time_limit for each in bench.dispatcher.take() if isinstance(each, UnitsAsked)]


def test_large_arguments_travel_as_blobs(bench: SessionsBench) -> None:
    """What is above 64 KiB is a file for the nodes, and whole in the store."""
    large = b"x" * 70_000
    wire = bench.opened()
    wire.say(Units(0, [b"small", large]))

    (fed,) = bench.dispatcher.take()
    assert isinstance(fed, UnitsAsked)
    assert [b"small", b""] == fed.args
    assert large == bench.blobs.read(fed.blobs[1].sha256)
    (change,) = [each for each in bench.store.committed if isinstance(each, InsertUnits)]
    assert [b"small", large] == list(change.args)
    bench.record(1, args=[large])
    assert not bench.blobs.path(fed.blobs[1].sha256).is_file()


def test_large_results_are_read_for_the_client(bench: SessionsBench) -> None:
    """A result that is a blob comes in a message of its own; one that is lost is a failure."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    large = b"y" * 70_000
    name = bench.blobs.put(large)
    bench.record(
        0,
        1,
        2,
        results=[b"r0", b"", b""],
        blobs={1: Payload(70_000, sha256=name), 2: Payload(70_000, sha256="0" * 64)},
    )

    first, second, third = sorted(wire.heard(), key=lambda each: each.indexes)
    assert Results([0], [b"r0"]) == first
    assert Results([1], [large]) == second
    assert "store" == third.failures[0][0]


# The window.


def test_a_repeated_unit_is_not_run_again(bench: SessionsBench) -> None:
    """The same index with the same arguments is acknowledged, and answered if it has ended."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    bench.record(0)
    bench.record(1, failures={0: Failure("failed", "no")})
    bench.dispatcher.take()
    wire.heard()

    told = wire.say(units(0, 1, 2, 3))
    assert Stored([0, 1, 2, 3], 4) == told[0]
    assert [Results([0, 1], [b"r0", b""], {1: ("failed", "no", "")})] == told[1:]
    assert [asked(3)] == runs(bench.dispatcher.take())


def test_an_index_is_for_one_unit(bench: SessionsBench) -> None:
    """Other arguments under a known index are refused; the other units of the message are stored and run."""
    wire = bench.opened()
    wire.say(units(0, 1))
    bench.dispatcher.take()

    refused, stored = wire.say(Units([1, 2], [b"other", b"2"]))
    assert ("conflict", [1]) == (refused.code, refused.indexes)
    assert Stored([2], 1) == stored
    assert [asked(2)] == runs(bench.dispatcher.take())
    bench.record(1)
    assert [Results([1], [b"r1"])] == wire.heard()


def test_a_message_of_refused_units_is_not_acknowledged(bench: SessionsBench) -> None:
    """None of a row is stored, so nothing says that it is."""
    wire = bench.opened()
    wire.say(units(0, 1))

    assert [Refused("conflict", OTHERS, [0, 1])] == wire.say(Units(0, [b"other", b"other"]))


def test_a_repeat_waits_for_the_commit_of_the_first(bench: SessionsBench) -> None:
    """A unit whose storing is under way is acknowledged when it is stored, and runs once."""
    wire = bench.opened()
    bench.store.hold()
    assert [] == wire.say(units(0), units(0))
    bench.store.release()

    assert [Stored([0], 1), Stored([0], 1)] == wire.heard()
    assert [asked(0)] == runs(bench.dispatcher.take())


def test_other_arguments_are_refused_while_the_first_are_being_stored(bench: SessionsBench) -> None:
    """What comes second is refused though the store does not know the first yet, and the first runs."""
    wire = bench.opened()
    bench.store.hold()
    assert [] == wire.say(Units(1, [b"first"]), Units(1, [b"second", b"2"]))
    bench.store.release()

    assert [Stored(1, 1), Refused("conflict", OTHERS, [1])] == wire.heard()[:2]
    assert [([1], [b"first"]), asked(2)] == runs(bench.dispatcher.take())
    bench.record(1, args=[b"first"])
    wire.heard()
    assert "conflict" == wire.say(Units(1, [b"second"]))[0].code


def test_units_that_are_looked_up_at_the_same_time_run_once(bench: SessionsBench) -> None:
    """The same, and others, while the store is asked about the first."""
    wire = bench.opened()
    wire.say(units(9))
    bench.dispatcher.take()
    bench.store.wait()
    wire.say(units(0, 1), units(1, 2), Units([2, 3], [b"other", b"3"]))
    bench.store.answer()

    assert [asked(0, 1), asked(2), asked(3)] == runs(bench.dispatcher.take())
    (refused,) = [each for each in wire.heard() if isinstance(each, Refused)]
    assert ("conflict", [2]) == (refused.code, refused.indexes)


def test_a_unit_that_ends_while_it_is_looked_up_is_not_run_again(bench: SessionsBench) -> None:
    """A repeat that crosses the result."""
    wire = bench.opened()
    wire.say(units(0))
    bench.store.wait()
    wire.say(units(0))
    bench.record(0)
    bench.dispatcher.take()
    bench.store.answer()

    assert [] == runs(bench.dispatcher.take())
    assert Results([0], [b"r0"]) in wire.heard()


# What is no session.


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("text", 1003),
        (b"", 1008),
        (b"\xc1", 1008),
        (b"\x91" * 10_000, 1008),
        (b"\x92\x03\x00", 1008),
        (units(0), 1008),
        (Close(), 1008),
    ],
)
def test_what_is_no_message_ends_the_socket(bench: SessionsBench, message: object, code: int) -> None:
    """Text, broken or early messages: a close with words."""
    wire = bench.connect()
    wire.say(message)

    assert code == wire.closed[0][0]
    assert wire.closed[0][1]


@pytest.mark.parametrize(
    "message",
    [
        Units([0, 1], [b""]),
        Units([0, 0], [b"", b""]),
        Units([], []),
        Units(3, []),
        Units(2**53 - 1, [b"", b""]),
        Open(TASK),
        Attach(1),
    ],
)
def test_what_cannot_be_in_a_session_ends_the_socket(bench: SessionsBench, message: object) -> None:
    """The session itself stays, for a better client."""
    wire = bench.opened()
    (refused,) = wire.say(message)

    assert "wire" == refused.code
    assert 1008 == wire.closed[0][0]
    assert [] == bench.dispatcher.take()
    assert [Opened(1)] == bench.connect().say(Attach(1))


@pytest.mark.parametrize("message", [Units([], []), Units(3, [])])
def test_a_message_without_units_is_refused_in_words(bench: SessionsBench, message: Units) -> None:
    """What is wrong with it is that there is nothing in it."""
    (refused,) = bench.opened().say(message)
    assert "A message of units has at least one." == refused.message


def test_an_unknown_task_is_refused_in_words(bench: SessionsBench) -> None:
    """The client may try another on the same socket."""
    wire = bench.connect()
    (refused,) = wire.say(Open("demo.steps.Other"))

    assert "not_found" == refused.code
    assert [Opened(1)] == wire.say(Open(TASK))


def test_a_request_key_gives_the_first_session(bench: SessionsBench) -> None:
    """A repeated open goes on with the session of then; keys have a form."""
    first = bench.opened(request_key=KEY)
    wire = bench.connect()

    assert [Opened(1)] == wire.say(Open(TASK, request_key=KEY))
    assert "conflict" == first.heard()[0].code
    assert "request" == bench.connect().say(Open(TASK, request_key="short"))[0].code


# The end.


def test_a_closed_session_is_complete(bench: SessionsBench) -> None:
    """The instance is complete with the counts of its units; then the client hears of the end."""
    wire = bench.opened()
    wire.say(units(0, 1, 2))
    bench.record(0, 1, failures={1: Failure("failed", "no")})
    wire.heard()
    assert [] == wire.say(Close(), Close())
    assert [(1, {"complete": 1, "failed": 1, "queued": 1})] == bench.dispatcher.completed
    assert "conflict" == wire.say(units(5))[0].code
    bench.finish(Status.COMPLETE)

    assert [Ended(3, 1, 1, 1)] == wire.heard()
    assert 1000 == wire.closed[0][0]


def test_the_units_of_units_are_not_counted(bench: SessionsBench) -> None:
    """The result, the end, and what a late client hears count what the client sent."""
    wire = bench.opened()
    wire.say(units(0))
    bench.record(0, 1, 2, branch=f"{TASK}:0/Sub")
    bench.record(0)
    wire.heard()
    wire.say(Close())
    assert [(1, {"complete": 1, "failed": 0, "queued": 0})] == bench.dispatcher.completed
    bench.finish(Status.COMPLETE)

    assert [Ended(3, 1, 0, 0)] == wire.heard()
    assert [Ended(3, 1, 0, 0)] == bench.connect().say(Attach(1))


def test_a_close_waits_for_what_is_being_stored(bench: SessionsBench) -> None:
    """Nothing that was sent before the close is left out of the counts."""
    wire = bench.opened()
    bench.store.hold()
    wire.say(units(0), Close())
    assert [] == bench.dispatcher.completed
    bench.store.release()

    assert [Stored([0], 1)] == wire.heard()
    assert [(1, {"complete": 0, "failed": 0, "queued": 1})] == bench.dispatcher.completed


def test_an_instance_that_ends_otherwise_ends_the_session(bench: SessionsBench) -> None:
    """Cancelled or failed: all results first, then the end, and nothing more is taken."""
    wire = bench.opened()
    wire.say(units(0, 1))
    wire.has_room = False
    bench.record(0)
    bench.finish(Status.FAILED, failure=Failure("worker_died", "It died."))
    assert [] == wire.heard()[2:]
    wire.has_room = True
    wire.speaker.unblocked()

    assert [Results([0], [b"r0"]), Ended(-1, 1, 0, 1, "worker_died", "It died.")] == wire.heard()
    (ended,) = bench.connect().say(Attach(1))
    assert Ended(-1, 1, 0, 1, "worker_died", "It died.") == ended


def test_units_of_a_session_that_just_ended_are_not_acknowledged(bench: SessionsBench) -> None:
    """The store takes no units of a final instance, and the client hears how it ended."""
    wire = bench.opened()
    bench.store.hold()
    wire.say(units(0))
    bench.store._held, held = None, bench.store._held
    bench.finish()
    for each in held or []:
        each.callback(None)

    assert [Ended(-2, 0, 0, 0)] == wire.heard()


def test_results_of_units_that_a_crash_kept_from_the_store_wait_for_their_message(
    bench: SessionsBench,
) -> None:
    """A node may have results of units that are not stored: the client sends those again, and hears once."""
    wire = bench.opened()
    wire.say(units(1))

    bench.record(0, 1, 2, failures={2: Failure("failed", "no")})
    assert [Results([1], [b"r1"])] == wire.heard()
    told = wire.say(units(0, 2))
    assert [Stored([0, 2], 2), Results([0, 2], [b"r0", b""], {1: ("failed", "no", "")})] == told
