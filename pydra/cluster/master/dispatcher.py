# SPDX-License-Identifier: MIT
"""
Feeds the scheduler and carries out its instructions: persist, then send, then publish.

Each feed becomes one round: a list of changes, and a list of steps that are taken when they are committed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import assert_never

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pydra.cluster.interfaces import Progress, Store
from pydra.cluster.master.endings import Endings, begun_before, dependencies, restored, submitted
from pydra.cluster.master.instance_forms import as_paused, as_resumed, as_waiting, failure_of
from pydra.cluster.master.live import LiveInstances
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.master.rounds import Round, Rounds
from pydra.cluster.master.store_retry import ANSWER_S, not_yet
from pydra.cluster.master.units.rounds import UnitRounds
from pydra.cluster.scheduler import inputs, instructions, unit_values
from pydra.cluster.scheduler.machine import Scheduler
from pydra.cluster.wire.messages import (
    KillUnit,
    PauseUnit,
    Recorded,
    RunUnit,
    StopUnit,
    ToNode,
    UnitFinished,
    UnitProgress,
)
from pydra.errors import StoreError, TaskFailed, TaskTerminated
from pydra.events import Event, InstanceChanged, InstanceProgressed
from pydra.model.changes import (
    FinishInstance,
    InsertInstance,
    MarkCancelling,
    MarkPaused,
    RequeueInstance,
    RetryInstance,
    StartAttempt,
)
from pydra.model.ids import Attempt, InstanceId, NodeId, WorkerKey
from pydra.model.instance import Ended, Failure, Instance, Payload
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK, UnitRow

REMEMBERED = 200
"""Final instances that are kept at hand: whoever waited for one asks for it in the next moment."""


class Dispatcher:
    """Joins scheduler, store, nodes and events; holds every instance that is not final."""

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        scheduler: Scheduler,
        store: Store,
        send: Callable[[NodeId, ToNode], None],
        worker_key: Callable[[NodeId, int], WorkerKey],
        publish: Callable[[Event], int],
        fatal: Callable[[str], None],
        uses: BlobUses,
        heard: Callable[[NodeId], int],
    ) -> None:
        self._heard = heard
        self._clock = clock
        self._wall_clock = wall_clock
        self._scheduler = scheduler
        self._store = store
        self._send = send
        self._worker_key = worker_key
        self._publish = publish
        self._fatal = fatal
        self._uses = uses
        self.live = LiveInstances()
        self.progress: dict[InstanceId, Progress] = {}
        self.ended: OrderedDict[InstanceId, Instance] = OrderedDict()
        """The instances that became final last."""
        self._outcomes: dict[Attempt, tuple[NodeId, UnitFinished]] = {}
        self._rounds = Rounds(clock, store, fatal)
        self.units = UnitRounds(
            clock,
            wall_clock,
            scheduler,
            store,
            self._rounds,
            self.live,
            lambda node, message: self._send(node, message),
            worker_key,
            lambda event: self._publish(event),
            self.feed,
            self.refuse,
            uses,
            lambda node: self._heard(node),
        )
        self._verdicts: dict[InstanceId, Failure] = {}
        """How instances will have failed that are being killed."""
        self._completed: dict[InstanceId, Payload] = {}
        """The results of instances that will have been complete, though they are being stopped."""
        self.endings = Endings(scheduler, store)
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def restore(
        self,
        unfinished: Sequence[Instance],
        past: Mapping[InstanceId, Ended],
        nodes: Iterable[NodeId],
        begun: Sequence[UnitRow],
    ) -> None:
        """
        Rebuild the scheduler from what the store holds; once, before anything else.

        ``past`` is what ``past_of`` tells of them; ``nodes`` are those that may have workers and results;
        ``begun`` are units that the store has as RUNNING.
        """
        now = self._wall_clock()
        for instance in unfinished:
            self.live[instance.id] = instance
            if instance.result is not None:
                self._completed[instance.id] = instance.result
            self.units.look_first(instance.id)
        expected = unit_values.NodesExpected(tuple(nodes))
        self.feed(
            *(restored(instance, past, now) for instance in unfinished),
            *(each for row in begun if (each := begun_before(row)) is not None),
            expected,
        )

    async def submit(self, instance: Instance) -> tuple[InstanceId, bool]:
        """
        Commit a new instance and queue it; answers its id and whether it is new.

        A request key that is known answers the first id. `StoreError` if it could not be committed.
        """
        others = dependencies(instance.options)
        with self.endings.following(others):
            past = await self.endings.of(others)
            [committed] = await self._store.commit([InsertInstance(instance)])
            if committed.instance is None:
                raise StoreError
            if not committed.applied:
                return committed.instance, False
            if committed.instance != instance.id:
                raise StoreError("The store gave the instance another id.")
            self.live[instance.id] = instance
            self._publish(InstanceChanged(instance.id, Status.QUEUED))
            self.feed(submitted(instance, past | self.endings.since(others)))
        return instance.id, True

    def unit_finished(self, node: NodeId, message: UnitFinished) -> None:
        """A node tells an outcome."""
        self._outcomes[message.attempt] = (node, message)
        reason, code = (message.failure.message, message.failure.code) if message.failure else (None, "")
        self.feed(inputs.UnitFinished(message.attempt, node, inputs.Outcome(message.outcome), reason, code))
        self._outcomes.pop(message.attempt, None)

    def node_came(self, node: NodeId) -> None:
        """There is a new link to a node: what was sent over the last one may not have arrived."""
        for instance in self.live.values():
            if instance.node == node and instance.status is not Status.QUEUED:
                self.units.look_first(instance.id)
                self._tell_pause(instance)

    def is_held(self, node: NodeId, instance: InstanceId, attempt: Attempt) -> bool:
        """This attempt is the current one of the instance, and this node runs it."""
        live = self.live.get(instance)
        return live is not None and live.attempt == attempt and live.node == node

    def is_connected(self, node: NodeId) -> bool:
        """Work may be sent to this node, now or when it is heard of again."""
        return self._scheduler.is_connected(node)

    def holder(self, node: NodeId, attempt: Attempt) -> InstanceId | None:
        """The instance that this node runs as this attempt; None if it is stale or foreign."""
        held = self._scheduler.holder(attempt)
        return held[0] if held is not None and held[1] == node else None

    def unit_progressed(self, node: NodeId, message: UnitProgress) -> None:
        """A node tells progress; it counts if the node runs that attempt."""
        if self.is_held(node, message.instance, message.attempt):
            self.progress[message.instance] = Progress(message.attempt, message.percent, message.message)
            self._publish(InstanceProgressed(message.instance, message.percent, message.message))

    def complete(self, instance: InstanceId, result: Payload) -> None:
        """Stop an instance; unless it was asked to stop before, it will be complete, with this result."""
        live = self.live.get(instance)
        # What the scheduler knows may not be committed yet.
        is_ending = self._scheduler.status(instance) in (Status.CANCELLING, Status.UNKNOWN)
        if live is not None and not is_ending:
            self._completed.setdefault(instance, result)
            self.feed(inputs.CancelRequested(instance, completes=True))

    def refuse(self, instance: InstanceId, failure: Failure) -> None:
        """Kill a running instance because of what its worker did; it will have failed by this."""
        if instance in self.live:
            self._verdicts.setdefault(instance, failure)
            self.feed(inputs.TerminateRequested(instance, kill=True, fail=True))

    def feed(self, *given: inputs.Input) -> Deferred[None]:
        """Feed the scheduler; the Deferred fires when all that follows is committed and sent."""
        round_ = Round()
        try:
            for instruction in self._scheduler.feed(self._clock.seconds(), given):
                self._translate(instruction, round_)
            self._set_timer()
        except Exception:
            # It stopped half way: what the scheduler knows and what is done differ from now on.
            self._fatal("the scheduler failed; the log has the details")
            raise
        self._rounds.add(round_)
        return round_.done

    def ask(self, given: inputs.Input) -> Deferred[None]:
        """Feed what somebody waits for: `StoreError` if it must be carried out later than they can wait."""
        return self.feed(given).addTimeout(ANSWER_S, self._clock, not_yet)

    def stop(self) -> None:
        """Leave no timer behind and take no further step."""
        self._stopped = True
        self._rounds.stop()
        self.units.stop()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _set_timer(self) -> None:
        wake_at = self._scheduler.wake_at()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if wake_at is not None and not self._stopped:
            delay = max(0.0, wake_at - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self.feed(inputs.TimePassed())

    def _translate(self, instruction: instructions.Instruction, round_: Round) -> None:
        match instruction:
            case instructions.Dispatch():
                self._dispatch(instruction, round_)
            case instructions.StopUnit(node=node, attempt=attempt):
                round_.steps.append(lambda: self._send(node, StopUnit(attempt)))
            case instructions.KillUnit(node=node, attempt=attempt):
                round_.steps.append(lambda: self._send(node, KillUnit(attempt)))
            case instructions.Discard(node=node, attempt=attempt):
                round_.steps.append(lambda: self._send(node, Recorded((attempt,))))
            case instructions.BeginCancelling(instance=instance, fails=fails, reason=reason, code=code):
                ended = Failure(code or TaskTerminated.code, reason or str(TaskTerminated()))
                failure = self._verdicts.get(instance, ended) if fails else None
                result = None if fails else self._completed.get(instance)
                round_.changes.append(MarkCancelling(instance, failure, result))
                self._update(round_, instance, status=Status.CANCELLING, failure=failure, result=result)
            case instructions.Requeue(instance=instance, attempt=attempt, losses=losses):
                round_.changes.append(RequeueInstance(instance, attempt, losses))
                self._change(round_, instance, lambda live: as_waiting(live, losses))
                self._acknowledge(round_, attempt)
            case instructions.Retry():
                self._retry(instruction, round_)
            case instructions.Finish():
                self._finish(instruction, round_)
            case unit_values.Pause(instance=instance, paused=paused):
                round_.changes.append(MarkPaused(instance, paused))
                self._change(round_, instance, as_paused if paused else as_resumed)
                round_.steps.append(lambda: self._tell_pause(self.live[instance]))
            case (
                unit_values.HireWorker()
                | unit_values.ReleaseWorker()
                | unit_values.RunUnits()
                | unit_values.RecordUnits()
                | unit_values.FailUnits()
                | unit_values.DiscardUnits()
            ):
                self.units.translate(instruction, round_)
            case _:
                assert_never(instruction)

    def _tell_pause(self, instance: Instance) -> None:
        """The node counts how long an attempt with a time limit runs, for a master after this one."""
        attempt, node = instance.attempt, instance.node
        if not instance.options.time_limit or attempt is None or node is None:
            return
        if instance.status in (Status.RUNNING, Status.PAUSED):
            self._send(node, PauseUnit(attempt, instance.status is Status.PAUSED))

    def _dispatch(self, dispatch: instructions.Dispatch, round_: Round) -> None:
        instance, attempt, slot = dispatch.instance, dispatch.attempt, dispatch.slot
        live = self.live[instance]
        now = self._wall_clock()
        if live.started is not None:
            self.units.look_first(instance)
        worker = self._worker_key(slot.node, slot.index)
        round_.changes.append(StartAttempt(instance, attempt, slot.node, worker, now))
        guarantee = int(live.options.guarantee) if live.task_key != SESSION_TASK else 0
        promised = (b"", guarantee, self._heard(slot.node)) if guarantee else ()
        self._update(
            round_,
            instance,
            status=Status.RUNNING,
            attempt=attempt,
            node=slot.node,
            worker=worker,
            started=live.started or now,
            not_before=None,
            failure=None,
        )

        def send() -> None:
            # While it was committed, the node may have come back without it: then it was given up.
            if self._scheduler.holder(attempt) is None:
                return
            # Only now, since what was lost in the same round is counted before this.
            losses = self.live[instance].losses
            args = (live.task_key, live.package, live.version, live.args, worker, live.needs, losses)
            self._send(slot.node, RunUnit(attempt, instance, *args, *promised))

        round_.steps.append(send)

    def _retry(self, retry: instructions.Retry, round_: Round) -> None:
        instance, attempt, retried = retry.instance, retry.attempt, retry.retried
        told = self._outcomes[attempt][1].failure if attempt in self._outcomes else None
        failure = told or Failure(TaskFailed.code, str(TaskFailed()))
        not_before = self._wall_clock() + retry.delay_s
        round_.changes.append(RetryInstance(instance, attempt, retried, not_before, failure))
        changes = {"retried": retried, "not_before": not_before, "failure": failure}
        self._change(
            round_, instance, lambda live: msgspec.structs.replace(as_waiting(live, live.losses), **changes)
        )
        self._acknowledge(round_, attempt)

    def _finish(self, finish: instructions.Finish, round_: Round) -> None:
        instance, attempt, status = finish.instance, finish.attempt, finish.status
        told = self._outcomes[attempt][1] if attempt in self._outcomes else None
        result = told.result if told is not None and status is Status.COMPLETE else None
        if result is not None and result.sha256:
            self._uses.keep(result.sha256)
        completed = self._completed.pop(instance, None)
        if completed is not None and status is Status.CANCELLED:
            status, result = Status.COMPLETE, completed
        failure = None
        if status is Status.FAILED:
            failure = self._verdicts.get(instance)
            if failure is None and finish.code == TaskTerminated.code:
                failure = self.live[instance].failure
            failure = failure or failure_of(told, finish)
        now = self._wall_clock()
        round_.changes.append(FinishInstance(instance, attempt, status, now, result, failure))
        node = self._outcomes[attempt][0] if attempt in self._outcomes else self.live[instance].node
        self.endings.note(instance, Ended(status, node))
        self._update(round_, instance, status=status, completed=now, result=result, failure=failure)
        if attempt is not None:
            self._acknowledge(round_, attempt)

    def _acknowledge(self, round_: Round, attempt: Attempt) -> None:
        """Tell the node that told this outcome, if any did, that it is recorded."""
        if attempt in self._outcomes:
            node, _ = self._outcomes[attempt]
            round_.steps.append(lambda: self._send(node, Recorded((attempt,))))

    def _update(self, round_: Round, instance: InstanceId, *, status: Status, **changes: object) -> None:
        """After the commit, an instance has another status: show it, and tell those who wait."""
        self._change(round_, instance, lambda live: msgspec.structs.replace(live, status=status, **changes))

    def _change(self, round_: Round, instance: InstanceId, change: Callable[[Instance], Instance]) -> None:
        """The same, if the status depends on the one before."""

        def update() -> None:
            before = self.live[instance]
            after = change(before)
            if after.attempt != before.attempt or after.status.is_final or after.status is Status.QUEUED:
                self.progress.pop(instance, None)
            if after.status.is_final:
                del self.live[instance]
                self.units.ended(instance)
                self._verdicts.pop(instance, None)
                self.endings.stored(instance)
                self.ended[instance] = after
                if len(self.ended) > REMEMBERED:
                    self.units.discard(self.ended.popitem(last=False)[0])
            else:
                self.live[instance] = after
            self._publish(InstanceChanged(instance, after.status))

        round_.steps.append(update)
