# SPDX-License-Identifier: MIT
"""
Work units through the rounds of the dispatcher.

Workers are hired and batches sent as soon as the scheduler says so, since they may be repeated without harm.
Results go the way of everything else: they are committed, then given to the asker and acknowledged to their
node, then published. Asks of which results may be recorded already are looked up first: those of a root that
does not run for the first time or was found running, of a nested asker, and of a root whose node was away;
and those of clients of sessions for units that are not new.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import assert_never

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import Store
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.rounds import Round, Rounds, Step
from pydra.cluster.master.units.lookups import UnitLookUps
from pydra.cluster.master.units.results import Results, stored_results
from pydra.cluster.master.units.tally import UnitsView, UnitTally, stored_tally
from pydra.cluster.scheduler import inputs, unit_values
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.wire import messages
from pydra.errors import WireError
from pydra.events import Event, UnitsChanged
from pydra.model.changes import RecordUnits, StartUnit
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerKey
from pydra.model.instance import Failure, Instance
from pydra.model.options import NO_OPTIONS, Guarantee
from pydra.model.unit import OUTSTANDING_BYTES, OUTSTANDING_LIMIT, UnitRow

Told = Callable[[str, Results], None]
"""What a session is told with: a branch, and results that are committed."""

RoundInstruction = (
    unit_values.HireWorker
    | unit_values.ReleaseWorker
    | unit_values.RunUnits
    | unit_values.RecordUnits
    | unit_values.FailUnits
    | unit_values.DiscardUnits
)


class UnitRounds:
    """The dispatcher's part for units; ``live`` holds the instances that are not final."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        scheduler: Scheduler,
        store: Store,
        rounds: Rounds,
        live: dict[InstanceId, Instance],
        send: Callable[[NodeId, messages.ToNode], None],
        worker_key: Callable[[NodeId, int], WorkerKey],
        publish: Callable[[Event], int],
        feed: Callable[[inputs.Input], object],
        refuse: Callable[[InstanceId, Failure], None],
        uses: BlobUses,
        heard: Callable[[NodeId], int],
    ) -> None:
        self._heard = heard
        self._wall_clock = wall_clock
        self._scheduler = scheduler
        self._store = store
        self._rounds = rounds
        self._live = live
        self._send = send
        self._worker_key = worker_key
        self._publish = publish
        self._feed = feed
        self._refuse = refuse
        self._uses = uses
        self._looks_first: set[InstanceId] = set()
        self._tallies: dict[InstanceId, UnitTally] = {}
        self._recounted: set[InstanceId] = set()
        """Those that are about to be counted again."""
        self._listeners: dict[InstanceId, Told] = {}
        self._look_ups = UnitLookUps(
            clock, store, self._after_commits, self._answer_stored, self._go_on, scheduler.asks_as
        )

    def stop(self) -> None:
        """Leave no timer behind and answer nothing more."""
        self._look_ups.stop()

    # What happens to an instance.

    def look_first(self, instance: InstanceId) -> None:
        """From now on, what this instance asks for may be recorded already."""
        self._looks_first.add(instance)

    def ended(self, instance: InstanceId) -> None:
        """The instance is final; its counts, which are exact from now on, stay until they are discarded."""
        self._looks_first.discard(instance)
        self._uses.end(instance)
        self._listeners.pop(instance, None)
        self._look_ups.end(instance)
        tally = self._tallies.get(instance)
        if tally is not None and tally.is_exact:
            tally.end()
        elif tally is not None:
            self._count_again(instance)

    def _count_again(self, instance: InstanceId) -> None:
        """Before anything more is committed, so that nothing is counted twice or missed."""
        if instance not in self._recounted:
            self._recounted.add(instance)
            self._rounds.add(Round(look=functools.partial(self._recount, instance)))

    async def _recount(self, instance: InstanceId) -> None:
        self._recounted.discard(instance)
        tally = await stored_tally(self._store, instance, is_live=instance in self._live)
        if instance in self._tallies:
            self._tallies[instance] = tally

    def discard(self, instance: InstanceId) -> None:
        """Nobody asks any more how many units a final instance had."""
        self._tallies.pop(instance, None)

    def view(self, instance: InstanceId) -> UnitsView | None:
        """How many units of an instance are where; None if it has none."""
        queued, running = self._scheduler.units(instance)
        tally = self._tallies.get(instance)
        if tally is None:
            return UnitsView(0, 0, running, queued) if queued or running else None
        return UnitsView(tally.complete, tally.failed, running, queued)

    # What the master wants besides.

    def listen(self, instance: InstanceId, told: Told) -> None:
        """From now on, results of this session are told when they are committed, to the latest listener."""
        self._listeners[instance] = told

    def look_up(self, given: unit_values.UnitsAsked) -> None:
        """The client of a session wants units that may be recorded, or are about to be."""
        self._look_ups.begin(given)

    async def restore(self) -> None:
        """Take up what the store has of units of instances that are not final; once, at the start."""
        for instance in [each.id for each in self._live.values() if each.started is not None]:
            tally = await stored_tally(self._store, instance, is_live=instance in self._live)
            if tally.complete or tally.failed:
                self._tallies[instance] = tally

    # What a node says; its columns were checked.

    def asked(self, node: NodeId, message: messages.UnitsAsked) -> None:
        """A worker of the node asks for units."""
        instance = self.instance_of(node, message.asker)
        if instance is None:
            return
        given = unit_values.UnitsAsked(
            instance,
            message.asker,
            message.branch,
            message.indexes,
            message.args,
            message.digests,
            message.blobs,
            message.time_limit,
        )
        live = self._live[instance]
        if message.guarantee or live.options is not NO_OPTIONS:
            guarantee = Guarantee(message.guarantee) | live.options.guarantee
            given = msgspec.structs.replace(given, guarantee=guarantee)
        if given.blobs:
            self._uses.take(instance, given.branch, given.indexes, given.blobs)
        # What may run once alone may have failed before, in this very run.
        is_once = bool(given.guarantee & Guarantee.ONCE)
        if is_once or instance in self._looks_first or live.attempt != message.asker:
            self._look_ups.begin(given)
            self._check_limits(given, self._look_ups.outstanding(instance, given.asker))
        else:
            self._ask(given)

    def _ask(self, given: unit_values.UnitsAsked) -> None:
        self._feed(given)
        self._check_limits(given, self._scheduler.outstanding(given.instance, given.asker))

    def _check_limits(self, given: unit_values.UnitsAsked, outstanding: tuple[int, int]) -> None:
        """A node does not let a worker come here; its own count may be less than ours by a few batches."""
        units, size = outstanding
        if units > OUTSTANDING_LIMIT or size > 2 * OUTSTANDING_BYTES:
            words = f"The task asked for more than {OUTSTANDING_LIMIT} units before it had results."
            self._refuse(given.instance, Failure(WireError.code, words))

    def forgotten(self, node: NodeId, message: messages.UnitsForgotten) -> None:
        """A worker of the node wants no more results of a branch."""
        instance = self.instance_of(node, message.asker)
        if instance is not None:
            self.look_first(instance)  # for what it may ask for again
            self.forget(unit_values.UnitsForgotten(instance, message.asker, message.branch))

    def forget(self, given: unit_values.UnitsForgotten) -> None:
        """No more results of a branch are wanted."""
        self._look_ups.forget(given.instance, given.asker, given.branch)
        self._feed(given)

    def done(self, node: NodeId, message: messages.UnitsDone) -> None:
        """A node tells results; stale ones are fenced by the scheduler."""
        count = len(message.results)
        self._feed(
            unit_values.UnitsDone(
                node, message.worker, message.batch, message.start, count, message.busy_s, message
            )
        )

    def worker_lost(self, node: NodeId, message: messages.WorkerLost) -> None:
        """A hired worker of the node ended by itself."""
        failure = message.failure
        self._feed(unit_values.WorkerLost(node, message.worker, failure.message, failure.code))

    def instance_of(self, node: NodeId, worker: Attempt) -> InstanceId | None:
        """The instance that a worker of this node is of, its main one or a hired one; None if it is stale."""
        held = self._scheduler.worker(worker)
        return held[0] if held is not None and held[1] == node and held[0] in self._live else None

    def may_ask(self, worker: Attempt, branch: str) -> bool:
        """False if this worker has no unit that could ask for units of this branch."""
        return self._scheduler.may_ask(worker, branch)

    # What the scheduler wants.

    def translate(self, wanted: RoundInstruction, round_: Round) -> None:
        """Carry out an instruction, now or in the round."""
        match wanted:
            case unit_values.RunUnits(node=node):
                message = messages.RunUnits(
                    wanted.worker,
                    wanted.batch,
                    wanted.branch,
                    wanted.indexes,
                    wanted.args,
                    wanted.digests,
                    dict(wanted.blobs),
                    wanted.time_limit,
                )
                if wanted.guarantee:
                    self._start(wanted, message, round_)
                else:
                    self._send_now(node, message)
            case unit_values.RecordUnits():
                self._record(wanted, round_)
            case unit_values.HireWorker():
                self._hire(wanted)
            case unit_values.ReleaseWorker(node=node, worker=worker):
                self._send_now(node, messages.ReleaseWorker(worker))
            case unit_values.DiscardUnits(node=node, batch=batch, count=count):
                round_.steps.append(lambda: self._send(node, messages.UnitsRecorded(batch, count)))
            case unit_values.FailUnits():
                self._fail(wanted, round_)
            case _:
                assert_never(wanted)

    def _start(self, wanted: unit_values.RunUnits, message: messages.RunUnits, round_: Round) -> None:
        """A batch with a guarantee is stored, and then sent."""
        node, guarantee = wanted.node, wanted.guarantee
        about = (wanted.instance, wanted.branch, wanted.indexes[0], wanted.digests, guarantee)
        round_.changes.append(StartUnit(*about, wanted.batch, wanted.worker, node))
        heard = self._heard(node)
        message = msgspec.structs.replace(message, guarantee=int(guarantee), heard=heard)

        def send() -> None:
            # While it was committed, its worker may have been lost: then it was given up.
            if self._scheduler.is_current_batch(wanted.batch):
                self._send(node, message)

        round_.steps.append(send)

    def _send_now(self, node: NodeId, message: messages.ToNode) -> None:
        try:
            self._send(node, message)
        # An edge: what the scheduler decided besides concerns others.
        except Exception:  # noqa: BLE001
            self.log.failure("A {kind} was not sent", kind=type(message).__name__)

    def _hire(self, wanted: unit_values.HireWorker) -> None:
        live, slot = self._live[wanted.instance], wanted.slot
        key = self._worker_key(slot.node, slot.index)
        about = (live.task_key, live.package, live.version, key, live.needs)
        self._send_now(slot.node, messages.HireWorker(wanted.worker, wanted.instance, *about))

    def _record(self, wanted: unit_values.RecordUnits, round_: Round) -> None:
        told: messages.UnitsDone = wanted.told  # type: ignore[assignment]  # handed through as ``done`` gave it
        change = RecordUnits(
            wanted.instance,
            wanted.branch,
            wanted.indexes,
            wanted.digests,
            told.results,
            told.failures,
            told.blobs,
            wanted.batch,
            wanted.node,
            self._wall_clock(),
        )
        for blob in told.blobs.values():
            self._uses.keep(blob.sha256)
        recorded = messages.UnitsRecorded(wanted.batch, wanted.recorded)
        self._settle(change, wanted.asker, round_, lambda: self._send(wanted.node, recorded))

    def _fail(self, wanted: unit_values.FailUnits, round_: Round) -> None:
        count = len(wanted.indexes)
        change = RecordUnits(
            wanted.instance,
            wanted.branch,
            wanted.indexes,
            wanted.digests,
            [b""] * count,
            dict.fromkeys(range(count), Failure(wanted.code, wanted.reason)),
            {},
            wanted.batch,
            None,
            self._wall_clock(),
        )
        self._settle(change, wanted.asker, round_)

    def _settle(
        self, change: RecordUnits, asker: Attempt | None, round_: Round, acknowledge: Step | None = None
    ) -> None:
        """Commit results; then give them to the asker, who waits, acknowledge them, and tell the world."""
        instance, branch = change.instance, change.branch
        self._look_ups.settled(instance, asker, branch, change.indexes)
        round_.changes.append(change)

        def give() -> None:
            wanted = self._look_ups.wanted(instance, branch)
            # One that failed is run again for who is looking it up, with the same arguments.
            self._uses.release(instance, branch, [each for each in change.indexes if each not in wanted])
            results = Results(change.indexes, change.results, change.failures, change.blobs)
            self._give(instance, asker, branch, results)

        def tell() -> None:
            if instance in self._live:
                tally = self._tallies.setdefault(instance, UnitTally())
                if change.attempt.epoch < self._store.epoch:
                    # An earlier master may have recorded it, and this one have counted that at its start.
                    complete, failed = len(change.indexes) - len(change.failures), len(change.failures)
                    self._count_again(instance)
                else:
                    complete, failed = tally.recorded(branch, change.indexes, change.failures)
                self._publish(UnitsChanged(instance, branch, complete, failed))

        round_.steps.append(give)
        if acknowledge is not None:
            round_.steps.append(acknowledge)
        round_.steps.append(tell)

    def _give(self, instance: InstanceId, asker: Attempt | None, branch: str, results: Results) -> None:
        """Send results to the node of the asker, or to the session, if there still is one."""
        if asker is None:
            listener = self._listeners.get(instance)
            if listener is not None:
                listener(branch, results)
            return
        held = self._scheduler.worker(asker)
        if held is not None:
            for message in results.messages(asker, branch):
                self._send(held[1], message)

    # Look-ups.

    def _after_commits(self, step: Step) -> None:
        self._rounds.add(Round(steps=[step]))

    def _answer_stored(self, asked: unit_values.UnitsAsked, rows: Sequence[UnitRow]) -> None:
        results = stored_results(rows)
        self._uses.release(asked.instance, asked.branch, results.indexes)
        self._give(asked.instance, asked.asker, asked.branch, results)

    def _go_on(self, asked: unit_values.UnitsAsked) -> None:
        """What is not recorded is asked of the scheduler, if there still is an asker."""
        if asked.asker is None:
            is_there = asked.instance in self._live
        else:
            held = self._scheduler.worker(asked.asker)
            is_there = held is not None and held[0] == asked.instance
        if is_there:
            self._ask(asked)
