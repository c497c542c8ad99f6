# SPDX-License-Identifier: MIT
"""The outbox of a node through kills and power cuts: nothing half, nothing of a batch out of order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pydra.cluster.wire.messages import UnitFinished, UnitsDone
from pydra.model.ids import Attempt
from pydra.model.instance import Payload
from tests.support.outboxes import WORKER, OutboxBench

NUMBERS = st.integers(0, 100)


class OutboxMachine(RuleBasedStateMachine):
    """
    Anything may happen, in any order.

    ``given`` are the results of each batch, ``acknowledged`` how many of them the master has; ``ended`` the
    outcomes of attempts, ``wanted`` those that it does not have.
    """

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self.path = Path(self._directory.name)
        self.bench = OutboxBench(self.path)
        self.number = 0
        self.count: dict[Attempt, int] = {}
        self.given: dict[Attempt, list[bytes]] = {}
        self.acknowledged: dict[Attempt, int] = {}
        self.ended: dict[Attempt, UnitFinished] = {}
        self.wanted: set[Attempt] = set()
        self.bench.link()

    @rule(size=st.sampled_from([1, 1000, 70_000]))
    def finish(self, size: int) -> None:
        """An attempt ends."""
        self.number += 1
        result = str(self.number).encode().ljust(size, b".")
        digest = hashlib.sha256(result).hexdigest() if size > 65_536 else ""
        message = self.bench.finish(self.number, result, digest)
        self.ended[message.attempt] = message
        self.wanted.add(message.attempt)

    @rule(count=st.integers(1, 6))
    def begin(self, count: int) -> None:
        """A batch is to be run."""
        self.number += 1
        batch = self.bench.begin(self.number, count).batch
        self.count[batch], self.given[batch], self.acknowledged[batch] = count, [], 0

    def running(self) -> list[Attempt]:
        """Batches with units that have no result."""
        return [batch for batch, count in self.count.items() if len(self.given[batch]) < count]

    @precondition(lambda self: self.running())
    @rule(number=NUMBERS, count=st.integers(1, 3), is_large=st.booleans())
    def done(self, number: int, count: int, is_large: bool) -> None:
        """Some results come."""
        batch = self.running()[number % len(self.running())]
        start = len(self.given[batch])
        count = min(count, self.count[batch] - start)
        results = [b"%d of %d" % (start + place, batch.number) for place in range(count)]
        self.given[batch] += results
        data, blobs = {}, {}
        if is_large:
            large = results[0].ljust(70_000, b".")
            digest = hashlib.sha256(large).hexdigest()
            data[digest], blobs[0] = large, Payload(len(large), sha256=digest)
        self.bench.outbox.keep_results(UnitsDone(WORKER, batch, start, results, blobs=blobs), data)

    @precondition(lambda self: self.wanted)
    @rule(number=NUMBERS)
    def forget(self, number: int) -> None:
        """An outcome is recorded."""
        attempt = sorted(self.wanted)[number % len(self.wanted)]
        self.wanted.discard(attempt)
        self.bench.outbox.forget(attempt)

    @precondition(lambda self: self.count)
    @rule(number=NUMBERS, count=st.integers(0, 7))
    def recorded(self, number: int, count: int) -> None:
        """Results are recorded."""
        batch = list(self.count)[number % len(self.count)]
        self.acknowledged[batch] = max(self.acknowledged[batch], min(count, len(self.given[batch])))
        self.bench.outbox.recorded(batch, count)

    @rule()
    def break_link(self) -> None:
        """The master goes, and comes back: it is told all that it did not acknowledge."""
        self.bench.unlink()
        self.check_told(self.bench.link(), set(), is_whole=True)

    @rule()
    def stop(self) -> None:
        """The node stops as it should, and starts: it has exactly what was not acknowledged."""
        self.bench.unlink()
        self.bench.stop()
        self.start(is_whole=True, is_exact=True)

    @rule()
    def kill(self) -> None:
        """The node is killed: it has all that was not acknowledged, and perhaps some that was."""
        self.start(is_whole=True, is_exact=False)

    @rule(part=st.floats(0, 1))
    def cut_power(self, part: float) -> None:
        """The machine loses a part of what was written: each batch has a row of its results, if any."""
        path = self.path / "journal"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(int(size * part))
        self.start(is_whole=False, is_exact=False)

    def start(self, is_whole: bool, is_exact: bool) -> None:
        """Another daemon; what it has is what is left."""
        self.bench.kill()
        self.bench = OutboxBench(self.path)
        before = set() if is_exact else {each for each in self.ended if each not in self.wanted}
        assert self.bench.journal.size <= self.bench.writer._live_bytes + 9 * len(self.count)
        told = self.bench.link()
        self.check_told(told, before, is_whole)
        self.wanted = set(self.bench.outbox.attempts())
        held = {batch.batch: batch for batch in self.bench.outbox.batches()}
        for batch in list(self.count):
            if batch in held:
                self.count[batch] = len(held[batch].indexes)
                del self.given[batch][self.count[batch] :]
                self.acknowledged[batch] = held[batch].recorded
            else:
                del self.count[batch], self.given[batch], self.acknowledged[batch]

    def check_told(
        self,
        told: list[UnitFinished | UnitsDone],
        extra: set[Attempt],
        is_whole: bool,
        is_exact: bool = False,
    ) -> None:
        """What is sent on a new link."""
        finished = {message.attempt: message for message in told if isinstance(message, UnitFinished)}
        assert all(self.ended[attempt] == message for attempt, message in finished.items())
        assert finished.keys() <= self.wanted | extra
        assert not is_whole or self.wanted <= finished.keys()
        rows: dict[Attempt, tuple[int, list[bytes]]] = {}
        for message in told:
            if isinstance(message, UnitsDone):
                start, results = rows.setdefault(message.batch, (message.start, []))
                assert message.start == start + len(results)
                results += message.results
        for batch, (start, results) in rows.items():
            assert self.given[batch][start : start + len(results)] == results
        for batch, given in self.given.items():
            start, results = rows.get(batch, (len(given), []))
            if is_whole:
                assert start + len(results) == len(given)
                assert start <= self.acknowledged[batch]

    @invariant()
    def nothing_else_is_in_the_directory(self) -> None:
        """Blobs are there exactly as long as they are needed; the size is what the files have."""
        files = {path.name: path.stat().st_size for path in self.path.iterdir()}
        assert sum(files.values()) == self.bench.writer.size

    def teardown(self) -> None:
        """The master acknowledges everything."""
        for attempt in self.bench.outbox.attempts():
            self.bench.outbox.forget(attempt)
        for batch in self.bench.outbox.batches():
            self.bench.outbox.recorded(batch.batch, 100)
        self.bench.outbox.close_batches(WORKER)
        self.bench.stop()
        self.bench = OutboxBench(self.path)
        assert [] == self.bench.link()
        self.bench.kill()
        self._directory.cleanup()


OutboxMachine.TestCase.settings = settings(stateful_step_count=30)
TestOutbox = OutboxMachine.TestCase
