# SPDX-License-Identifier: MIT
"""The way of log lines to the master: each once and in order, whatever is slow, broken, full or killed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.node import log_delivery
from pydra.cluster.node.log_delivery import AGAIN_S, RETRY_S
from pydra.cluster.wire.log_records import records_in
from pydra.model.ids import Attempt
from pydra.model.instance import LogLine
from tests.support.log_deliveries import FIRST, ONE, SEAL, SECOND, DeliveryBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[DeliveryBench]:
    """A delivery with a link."""
    bench = DeliveryBench(tmp_path)
    bench.delivery.link_up()
    yield bench
    bench.delivery.halt()
    assert [] == bench.clock.getDelayedCalls()


def test_sent_at_once_and_kept_until_it_is_stored(bench: DeliveryBench) -> None:
    """Lines do not wait for the disk; the file goes when the attempt has ended and all is acknowledged."""
    bench.is_slow = True
    log = bench.open()
    assert bench.keep(log, "one", "two")
    assert [(0, ["one", "two"])] == bench.take()
    assert [] == bench.files()
    bench.work()
    assert [f"1.1-1-{SEAL.hex()}.log"] == bench.files()
    bench.keep(log, "three")
    assert [(2, ["three"])] == bench.take()
    bench.stored(3)
    bench.work()
    assert 1 == len(bench.files())
    bench.delivery.end(log)
    bench.work()
    assert ([], ()) == (bench.files(), bench.delivery.held())


def test_the_end_comes_before_the_acknowledgement(bench: DeliveryBench) -> None:
    """Then the file goes with the last one, and an earlier one does not do."""
    log = bench.open()
    bench.keep(log, "one")
    bench.keep(log, "two")
    bench.delivery.end(log)
    bench.stored(1)
    assert 1 == len(bench.files())
    bench.stored(2)
    assert [] == bench.files()


def test_a_message_names_what_it_is_of(bench: DeliveryBench) -> None:
    """Attempt, instance, seal and work unit."""
    log = bench.open()
    bench.delivery.keep(log, [LogLine(5.0, "INFO", "log", "x")], "Sub", 7)
    [message] = bench.sent
    assert (ONE, SEAL, FIRST) == (message.instance, message.seal, message.record.attempt)
    assert ("Sub", 7) == (message.record.subtask, message.record.unit)


def test_without_a_link(bench: DeliveryBench) -> None:
    """Lines wait in the file, and go in order on the next link, from the first that is not acknowledged."""
    log = bench.open()
    bench.keep(log, "one")
    bench.keep(log, "two")
    bench.stored(1)
    bench.delivery.link_down()
    bench.take()
    bench.keep(log, "three")
    assert [] == bench.take()
    bench.delivery.link_up()
    assert [(1, ["two"]), (2, ["three"])] == bench.take()


def test_a_link_that_is_gone_already(bench: DeliveryBench) -> None:
    """What could not be sent is sent on the next link."""
    log = bench.open()
    bench.is_linked = False
    bench.keep(log, "one")
    bench.is_linked = True
    bench.keep(log, "two")
    assert [] == bench.take()
    bench.delivery.link_down()
    bench.delivery.link_up()
    assert [(0, ["one"]), (1, ["two"])] == bench.take()


def test_after_a_restart(bench: DeliveryBench) -> None:
    """What a killed daemon had written is delivered by the next one, oldest attempt first, and removed."""
    for attempt in (SECOND, FIRST):
        log = bench.open(attempt)
        bench.keep(log, f"{attempt} one")
        bench.keep(log, f"{attempt} two")
    bench.take()
    bench.restart()
    assert (FIRST, SECOND) == bench.delivery.held()
    assert [] == bench.take()
    bench.delivery.link_up()
    assert [
        (0, ["1.1 one"]),
        (1, ["1.1 two"]),
        (0, ["1.2 one"]),
        (1, ["1.2 two"]),
    ] == bench.take()
    bench.stored(2)
    bench.stored(2, SECOND)
    assert ([], ()) == (bench.files(), bench.delivery.held())


def test_killed_in_the_midst_of_a_write(bench: DeliveryBench) -> None:
    """Half a record at the end is none; what is before it is delivered."""
    log = bench.open()
    bench.keep(log, "one")
    bench.keep(log, "two")
    bench.take()
    whole = log.path.read_bytes()
    for cut in range(1, records_in(whole)[0][1] + 1):
        log.path.write_bytes(whole[:-cut])
        bench.restart()
        bench.delivery.link_up()
        assert [(0, ["one"])] == bench.take()
        bench.stored(1)
        assert ([], ()) == (bench.files(), bench.delivery.held())


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00\x05\xc1", b"\xff" * 100, bytes(10_000)])
def test_a_file_that_is_none(bench: DeliveryBench, data: bytes) -> None:
    """It is removed, and nothing is sent."""
    (bench.directory / f"1.1-1-{SEAL.hex()}.log").write_bytes(data)
    bench.restart()
    bench.delivery.link_up()
    assert ([], [], ()) == (bench.take(), bench.files(), bench.delivery.held())


@pytest.mark.parametrize(
    "name", ["x", "1.1-1-.txt", "-1.1-1-.log", "1.1-1-0.log", f"1.1-1-{'0' * 66}.log", f"{'9' * 19}.1-1-.log"]
)
def test_a_file_of_another_name(bench: DeliveryBench, name: str) -> None:
    """It is nobody's, and removed."""
    (bench.directory / name).write_bytes(b"x")
    bench.restart()
    assert ([], ()) == (bench.files(), bench.delivery.held())


def test_a_slow_master(bench: DeliveryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the window is under way; the rest comes from the file, in order, as it is acknowledged."""
    monkeypatch.setattr(log_delivery, "WINDOW", 500)
    log = bench.open()
    for number in range(100):
        bench.keep(log, f"{number:050}")
    seen: list[str] = []
    rounds = 0
    while found := bench.take():
        assert 7 >= len(found)
        seen += [text for _, texts in found for text in texts]
        bench.stored(len(seen))
        rounds += 1
    assert [f"{number:050}" for number in range(100)] == seen
    assert rounds > 10


def test_one_attempt_does_not_hold_up_another(bench: DeliveryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has much to send leaves turns to others."""
    monkeypatch.setattr(log_delivery, "WINDOW", 300)
    monkeypatch.setattr(log_delivery, "READ_SIZE", 200)
    much, little = bench.open(FIRST), bench.open(SECOND)
    for number in range(100):
        bench.keep(much, f"{number:050}")
    bench.keep(little, "little")
    counts = {FIRST: 0, SECOND: 0}
    while not counts[SECOND]:
        for message in bench.sent:
            counts[message.record.attempt] = message.record.end
        bench.sent.clear()
        bench.stored(counts[FIRST])
    assert counts[FIRST] < 50


def test_a_master_that_acknowledges_nothing(bench: DeliveryBench) -> None:
    """After a while it is sent again, and again, until it is stored."""
    log = bench.open()
    bench.keep(log, "one")
    assert [(0, ["one"])] == bench.take()
    for _ in range(2):
        bench.clock.advance(AGAIN_S - 1)
        assert [] == bench.take()
        bench.clock.advance(1)
        assert [(0, ["one"])] == bench.take()
    bench.stored(1)
    bench.clock.advance(AGAIN_S)
    assert ([], []) == (bench.take(), bench.clock.getDelayedCalls())


def test_a_master_that_is_slow_is_not_bothered(bench: DeliveryBench) -> None:
    """As long as something is acknowledged, nothing is sent twice."""
    log = bench.open()
    for number in range(5):
        bench.keep(log, str(number))
    for number in range(1, 5):
        bench.clock.advance(AGAIN_S - 1)
        bench.stored(number)
    assert 5 == len(bench.take())


@pytest.mark.parametrize(("attempt", "lines"), [(SECOND, 1), (FIRST, 0), (FIRST, -5)])
def test_acknowledgements_of_nothing(bench: DeliveryBench, attempt: Attempt, lines: int) -> None:
    """What is not known, or says nothing new, changes nothing."""
    log = bench.open()
    bench.keep(log, "one")
    bench.delivery.end(log)
    bench.delivery.stored(attempt, lines, is_wanted=True)
    assert (FIRST,) == bench.delivery.held()


def test_lines_that_are_not_wanted(bench: DeliveryBench) -> None:
    """They are not sent again, later ones are not kept, and the file goes with the end."""
    log = bench.open()
    bench.keep(log, "one")
    bench.delivery.stored(FIRST, 0, is_wanted=False)
    bench.take()
    assert bench.keep(log, "two")
    bench.delivery.link_down()
    bench.delivery.link_up()
    assert [] == bench.take()
    bench.delivery.end(log)
    assert ([], ()) == (bench.files(), bench.delivery.held())


def test_a_full_disk(bench: DeliveryBench) -> None:
    """Lines go to the master all the same, and wait in memory for the disk, up to a limit."""
    log = bench.open()
    bench.keep(log, "one")
    bench.fault = OSError(errno.ENOSPC, "No space left on device")
    assert bench.keep(log, "two")
    assert [(0, ["one"]), (1, ["two"])] == bench.take()
    kept = 0
    while bench.keep(log, "x" * 16_000):
        kept += 1
    assert 60 <= kept <= 66
    bench.fault = None
    bench.clock.advance(RETRY_S)
    assert log.end == log.written == log.path.stat().st_size
    assert bench.keep(log, "there is room again")


def test_a_disk_that_stays_full(bench: DeliveryBench) -> None:
    """What the master has need not be written."""
    log = bench.open()
    bench.fault = OSError(errno.ENOSPC, "No space left on device")
    bench.keep(log, "one")
    bench.delivery.end(log)
    bench.fault = None
    bench.stored(1)
    assert ([], ()) == (bench.files(), bench.delivery.held())
    bench.clock.advance(AGAIN_S)
    assert ([], []) == (bench.files(), bench.clock.getDelayedCalls())


def test_a_disk_that_cannot_be_read_for_a_while(bench: DeliveryBench) -> None:
    """The lines are read later."""
    bench.delivery.link_down()
    log = bench.open()
    bench.keep(log, "one")
    bench.fault = OSError(errno.EIO, "Input/output error")
    bench.delivery.link_up()
    assert [] == bench.take()
    bench.fault = None
    bench.clock.advance(RETRY_S)
    assert [(0, ["one"])] == bench.take()


@pytest.mark.parametrize("is_writing", [False, True])
def test_a_file_that_somebody_removed(bench: DeliveryBench, is_writing: bool) -> None:
    """Its lines are lost, and those that come after it are not."""
    bench.delivery.link_down()
    log = bench.open()
    bench.keep(log, "lost")
    log.path.unlink()
    bench.is_slow = is_writing
    if is_writing:
        bench.keep(log, "found")
        waiting, bench.calls, bench.is_slow = bench.calls, [], False
        bench.delivery.link_up()
        bench.calls = waiting
        bench.work()
    else:
        bench.delivery.link_up()
        bench.keep(log, "found")
    assert [(1, ["found"])] == bench.take()
    bench.stored(2)
    bench.delivery.end(log)
    assert ([], ()) == (bench.files(), bench.delivery.held())


def test_much_of_all_attempts(bench: DeliveryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit to what all attempts together may hold, and room again when it is delivered."""
    monkeypatch.setattr(log_delivery, "HELD_LIMIT", 1000)
    one, two = bench.open(FIRST), bench.open(SECOND)
    assert bench.keep(one, "x" * 800)
    assert not bench.keep(two, "x" * 800)
    bench.delivery.end(one)
    bench.stored(1)
    assert bench.keep(two, "x" * 800)


def test_written_while_it_is_read(bench: DeliveryBench) -> None:
    """Lines that come while older ones are read from the file follow them, each once."""
    bench.delivery.link_down()
    log = bench.open()
    bench.keep(log, "one")
    bench.is_slow = True
    bench.delivery.link_up()
    bench.keep(log, "two")
    bench.keep(log, "three")
    assert [] == bench.take()
    bench.work()
    assert [(0, ["one"]), (1, ["two"]), (2, ["three"])] == bench.take()


def test_nothing_after_the_end(bench: DeliveryBench) -> None:
    """Lines that come after it are dropped; a second end changes nothing."""
    log = bench.open()
    bench.keep(log, "one")
    bench.delivery.end(log)
    assert bench.keep(log, "two")
    bench.stored(1)
    bench.delivery.end(log)
    assert [(0, ["one"])] == bench.take()
    assert [] == bench.files()


def test_stopped_before_all_is_written(bench: DeliveryBench) -> None:
    """The last lines, which come when the workers are ended, are in the files for the next daemon."""
    bench.delivery.link_down()
    bench.is_slow = True
    one, two = bench.open(), bench.open(SECOND)
    bench.keep(one, "under way")
    bench.keep(one, "behind it")
    bench.keep(two, "of another")
    stopped = Deferred.fromCoroutine(bench.delivery.stop())
    assert not stopped.called
    bench.work()
    assert stopped.called
    bench.is_slow = False
    bench.restart()
    bench.delivery.link_up()
    assert [(0, ["under way"]), (1, ["behind it"]), (0, ["of another"])] == bench.take()


@pytest.mark.parametrize("is_slow", [False, True])
def test_stopped_with_a_full_disk(bench: DeliveryBench, is_slow: bool) -> None:
    """It is tried once more, and not waited for."""
    log = bench.open()
    bench.fault = OSError(errno.ENOSPC, "No space left on device")
    bench.keep(log, "one")
    bench.is_slow = is_slow
    stopped = Deferred.fromCoroutine(bench.delivery.stop())
    bench.work()
    assert stopped.called
    assert [] == bench.clock.getDelayedCalls()
    assert [] == bench.files()
