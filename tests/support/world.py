# SPDX-License-Identifier: MIT
"""A master and a node, joined by a cable, on one clock: with a store that outlives masters."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.scheduler import inputs, invariants
from pydra.cluster.wire import frames
from pydra.cluster.wire.log_records import records_in, unpack_lines
from pydra.cluster.wire.messages import Recorded, RunUnit, ToNode
from pydra.model.ids import InstanceId, NodeId
from pydra.model.instance import Instance
from pydra.model.status import Status
from tests.support.cables import Cable
from tests.support.fakes import MemoryStore
from tests.support.instances import queued_instance
from tests.support.node_links import LinkBench
from tests.support.nodes import NodeBench
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorker

TICK_S = 1.0
HELD = (Status.RUNNING, Status.CANCELLING)


class World:
    """
    Whatever happens in it, what was promised is checked: at each message to the node, and by ``check``.

    ``accepted`` are the ids that were answered, ``cancelled`` those whose cancellation was, ``results`` what
    the worker of each attempt gave, ``written`` what it wrote, ``cut_off`` what of that was in the files of a
    node that was killed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.store = self.make_store()
        self.highest = 0
        self.accepted: set[InstanceId] = set()
        self.cancelled: set[InstanceId] = set()
        self.results: dict[str, bytes] = {}
        self.written: dict[str, list[str]] = {}
        self.cut_off: dict[str, list[str]] = {}
        self.finals: dict[InstanceId, Instance] = {}
        self.faults: list[str] = []
        self.master = LinkBench(directory / "master", self.store, self.clock)
        self.new_node()
        self.join()

    def make_store(self) -> MemoryStore:
        """The store of all masters."""
        return MemoryStore()

    def close(self) -> None:
        """Leave no timer and no descriptor behind."""
        self.master.dispatcher.stop()
        self.node.kill()

    # What may happen.

    def join(self) -> None:
        """Master and node have ends of a new cable."""
        self.master.dispatcher._send = self.send
        self.cable = Cable(self.master.link, self.node.link)

    def new_node(self) -> None:
        """A node without anything running."""
        self.node = NodeBench(self.directory / "node", self.clock)

    def submit(self, key: str = "") -> None:
        """Somebody submits an instance, perhaps again."""
        self.highest += 1
        instance = queued_instance(self.highest, request_key=key, queued=self.clock.seconds())
        submitted = Deferred.fromCoroutine(self.master.dispatcher.submit(instance))
        submitted.addCallbacks(lambda answer: self.accepted.add(answer[0]), lambda _: None)

    def cancel(self, instance: InstanceId) -> None:
        """Somebody cancels an instance."""
        fed = self.master.dispatcher.feed(inputs.CancelRequested(instance))

        def answered(_: None) -> None:
            live = self.master.dispatcher.live.get(instance)
            if live is not None and live.status is Status.CANCELLING:
                self.cancelled.add(instance)

        fed.addCallback(answered)

    def restart_master(self, lose_commits: bool) -> None:
        """The master is killed, and starts anew on its store; what it was committing is there, or is not."""
        self.cable.pull("the master was killed")
        self.master.dispatcher.stop()
        if lose_commits:
            self.store._held = None
        self.store.release()
        self.store.accept()
        self.store.epoch += 1
        self.master = LinkBench(self.directory / "master", self.store, self.clock)
        unfinished = result_of(Deferred.fromCoroutine(self.store.unfinished()))
        self.master.dispatcher.restore(unfinished, {}, [NodeId(1)], [])
        self.join()

    def restart_node(self) -> None:
        """The node is killed with all its workers, and starts anew."""
        self.cable.pull("the node was killed")
        self.cut_off.update((str(worker.sent[0][1]), []) for worker in self.working())
        for path in (self.directory / "node" / "task_logs").iterdir():
            self.cut_off[path.name.partition("-")[0]] = own_lines(path)
        self.node.kill()
        self.new_node()
        self.join()

    def plug(self) -> None:
        """The link is there, if it was not."""
        if not self.cable.is_up:
            self.cable.plug()

    def advance(self, seconds: float) -> None:
        """Time passes, and messages with it."""
        left = seconds
        while left > 0:
            self.clock.advance(min(left, TICK_S))
            self.cable.settle()
            left -= TICK_S

    def working(self) -> list[ScriptedWorker]:
        """The workers that run the root of an instance."""
        return [worker for worker in self.alive() if worker.sent[0][0] == frames.RUN]

    def alive(self) -> list[ScriptedWorker]:
        """The workers that were sent something to do."""
        return [
            worker
            for worker in self.node.workers.taken
            if not worker.is_gone and not worker.is_killed and worker.sent
        ]

    def complete(self, worker: ScriptedWorker, size: int) -> None:
        """A worker gives a result of about that many bytes."""
        attempt = str(worker.sent[0][1])
        result = attempt.encode().ljust(size, b".")
        self.results[attempt] = result
        worker.says(frames.RESULT, result)

    def go_on(self, worker: ScriptedWorker) -> None:
        """A root does the next thing on the way to its end."""
        self.complete(worker, 10)

    def write(self, worker: ScriptedWorker) -> None:
        """A worker writes a line that no other ever wrote."""
        lines = self.written.setdefault(str(worker.sent[0][1]), [])
        lines.append(f"{worker.sent[0][1]} wrote {len(lines)}")
        worker.writes(f"{lines[-1]}\n".encode())

    # What must be true.

    def send(self, node: NodeId, message: ToNode) -> None:
        """Nothing goes to the node before it is stored; what does all the same, ``check`` finds."""
        held = {each.attempt for each in self.store._instances.values() if each.status in HELD}
        if isinstance(message, RunUnit) and message.attempt not in held:
            self.faults.append(f"{message.attempt} was sent before it was stored")
        if isinstance(message, Recorded) and held.intersection(message.attempts):
            self.faults.append(f"{message.attempts} were acknowledged before they were stored")
        self.master.link.send(message)

    def check(self) -> None:
        """What is true at every moment."""
        assert [] == self.faults
        invariants.check(self.master.scheduler.state)
        for instance in self.store._instances.values():
            if instance.id in self.finals:
                assert self.finals[instance.id] == instance, "what is final has changed"
            elif instance.status.is_final:
                self.finals[instance.id] = instance
                assert instance.id not in self.master.dispatcher.live or self.store._held is not None
            if instance.status is Status.COMPLETE:
                self.check_result(instance)
            if instance.id in self.cancelled:
                assert instance.status in (Status.CANCELLING, Status.CANCELLED)
        assert self.accepted <= self.store._instances.keys()

    def check_result(self, instance: Instance) -> None:
        """The result is the one that the worker of the recorded attempt gave."""
        assert instance.result is not None
        given = self.results[str(instance.attempt)]
        found = instance.result.inline
        if instance.result.sha256:
            found = self.master.blobs.read(instance.result.sha256)
        assert given == found

    def check_lines(self) -> None:
        """Each line is archived once and in order; of a node that was killed the last ones may be missing."""
        assert () == self.node.logs.held()
        archived: list[str] = []
        for path in (self.directory / "master" / "logs").glob("*/*.log"):
            archived += own_lines(path)
        for attempt, texts in self.written.items():
            found = [text for text in archived if text.startswith(f"{attempt} ")]
            assert texts[: len(found)] == found
            assert len(found) >= len(self.cut_off.get(attempt, texts))
        assert len(archived) == len(set(archived))

    def drain(self) -> None:
        """Faults stop: everything becomes final, and the node holds nothing any more."""
        self.store.accept()
        while self.store._held:
            self.store.release()
        self.store.release()
        for _ in range(300):
            self.plug()
            self.advance(TICK_S)
            for worker in self.working():
                if [frames.STOP] in worker.sent:
                    worker.says(frames.STOPPED)
                else:
                    self.go_on(worker)
            if not result_of(Deferred.fromCoroutine(self.store.unfinished())):
                break
        self.advance(30)
        self.check()
        self.check_lines()
        assert {} == self.master.dispatcher.live
        assert () == self.node.outbox.attempts()
        assert () == self.node.units.running()
        assert self.accepted <= self.finals.keys()


def own_lines(path: Path) -> list[str]:
    """The texts of a file of records that workers wrote, not the node."""
    lines = [line for record, _ in records_in(path.read_bytes()) for line in unpack_lines(record.lines)]
    return [line.text for line in lines if " wrote " in line.text]
