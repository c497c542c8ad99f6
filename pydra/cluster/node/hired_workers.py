# SPDX-License-Identifier: MIT
"""The hired workers of this node, by attempt."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pydra.cluster.node.delivery import Delivery
from pydra.cluster.node.hired_worker import HiredWorker
from pydra.cluster.node.surroundings import Surroundings
from pydra.cluster.wire.messages import HeldBatch, HeldWorker, HireWorker, RunUnits, WorkerLost
from pydra.errors import WorkerDied
from pydra.model.ids import Attempt
from pydra.model.instance import Failure
from pydra.model.options import Guarantee


class HiredWorkers:
    """Hires, feeds and releases workers, and tells the loss of those that end by themselves."""

    log = Logger()

    def __init__(self, around: Surroundings, delivery: Delivery) -> None:
        self._around = around
        self._delivery = delivery
        self._workers: dict[Attempt, HiredWorker] = {}
        around.outbox.has_room = self._go_on
        around.outbox.end_worker = self._end

    def held(self) -> tuple[HeldWorker, ...]:
        """All that have not ended."""
        return tuple(_held(worker.message) for worker in self._workers.values())

    def attempts(self) -> tuple[Attempt, ...]:
        """Their attempts."""
        return tuple(self._workers)

    def hire(self, message: HireWorker) -> None:
        """Begin a worker; one that is known already is left as it is."""
        if message.worker in self._workers:
            return
        worker = self._workers[message.worker] = HiredWorker(self._around, message, self._lost)
        self._watch(worker.start(), worker)

    def run(self, message: RunUnits) -> None:
        """Have a batch run; one that is known already is left as it is."""
        if self._around.outbox.has_batch(message.batch) or not message.indexes:
            return
        worker = self._workers.get(message.worker)
        if worker is None and self._around.outbox.is_lost(message.worker):
            return
        if worker is None:
            failure = Failure(WorkerDied.code, "The node does not have this worker (any more).")
            self._delivery.send(message.worker, WorkerLost(message.worker, failure))
            return
        if worker.is_ending or not self._may_begin(message, worker):
            return
        instance = worker.message.instance
        units = (message.branch, message.indexes, message.digests)
        held = HeldBatch(
            *(message.batch, message.worker, instance, *units),
            seal=worker.message.seal,
            is_guarded=bool(message.guarantee),
        )
        self._around.outbox.begin(held, is_synced=held.is_guarded)
        worker.run(message)

    def _may_begin(self, message: RunUnits, worker: HiredWorker) -> bool:
        """False of what is exclusive and was given out too long ago."""
        if not message.guarantee & Guarantee.EXCLUSIVE:
            return True
        leases = self._around.leases
        reason = f"The master did not answer for {leases.limit_s:g} s, and a unit of it is exclusive."
        worker.is_exclusive = True
        if leases.begin(message.worker, message.heard, lambda: worker.kill(reason)):
            worker.bind()
            return True
        worker.kill("It was given something exclusive, too long ago.")
        return False

    def release(self, attempt: Attempt) -> None:
        """End a worker; the results that it told are delivered all the same."""
        worker = self._workers.get(attempt)
        if worker is None:
            return
        if worker.is_exclusive:
            # Who waits for it is told when it is gone.
            worker.kill("The master gave it up.")
            return
        del self._workers[attempt]
        worker.release()
        self._around.packages.release(worker.message)
        self._around.outbox.close_batches(attempt)

    def _go_on(self) -> None:
        """There is room for results again."""
        for worker in list(self._workers.values()):
            worker.go_on()

    def _end(self, attempt: Attempt, why: str) -> None:
        """End one, if it is not gone, for something that is no fault of it."""
        worker = self._workers.get(attempt)
        if worker is not None:
            worker.kill(why)

    def kill_all(self, reason: str) -> None:
        """End all of them."""
        for worker in list(self._workers.values()):
            worker.kill(reason)

    def _lost(self, worker: HiredWorker, failure: Failure) -> None:
        message = worker.message
        del self._workers[message.worker]
        self._around.leases.end(message.worker)
        self._around.packages.release(message)
        self.log.debug(
            "Worker {attempt} of instance={instance} is lost: {reason}",
            attempt=str(message.worker),
            instance=message.instance,
            reason=failure.message,
        )
        self._around.outbox.lost(_held(message), failure)

    def _watch(self, started: Deferred[None], worker: HiredWorker) -> None:
        def failed(fault: object) -> None:
            self.log.error(
                "Worker {attempt} could not be started: {fault}",
                attempt=str(worker.message.worker),
                fault=fault,
            )
            worker.kill("The node failed to start it; its log has the details.")

        started.addErrback(failed)


def _held(message: HireWorker) -> HeldWorker:
    index = int(message.key.rpartition(":")[2])
    return HeldWorker(message.worker, message.instance, index, message.seal)
