# SPDX-License-Identifier: MIT
"""The commands of a master on its heart, with one package ``demo`` and a node that a test plays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from pydra.cluster.controller.functions import commands_of
from pydra.cluster.master.commands.explanations import ExplanationCommands
from pydra.cluster.master.commands.history import HistoryCommands
from pydra.cluster.master.commands.instances import InstanceCommands
from pydra.cluster.master.commands.nodes import NodeCommands
from pydra.cluster.master.commands.pauses import PauseCommands
from pydra.cluster.master.commands.submissions import Submissions
from pydra.cluster.master.commands.tasks import TaskCommands
from pydra.cluster.master.logs.archive import LogArchive
from pydra.cluster.master.logs.task_logs import TaskLogs
from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.master.payloads.unclaimed import Payloads
from pydra.cluster.master.roster import Roster
from pydra.cluster.packages.repository import Repository
from pydra.cluster.packages.uploaded import UploadedPackages
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.scheduler import inputs
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.wire import payload
from pydra.cluster.wire.log_records import LogRecord, pack_lines
from pydra.config import Settings
from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, TaskKey
from pydra.model.instance import LogLine
from pydra.model.node import NodeInformation
from pydra.model.package import FileError, Form, FormField, PackageDescription, TaskDescription
from tests.support.cables import unthreaded
from tests.support.fakes import MemoryStore
from tests.support.instances import VERSION
from tests.support.masters import Heart
from tests.support.pumps import result_of
from tests.support.workers import ScriptedWorkers

START = FormField("start", "integer", minimum=0.0)
NAME = FormField("name", "other")
DEMO = PackageDescription(
    PackageName("demo"),
    VERSION,
    (
        TaskDescription(TaskKey("demo.tasks.Plain"), "Takes anything."),
        TaskDescription(TaskKey("demo.tasks.Formed"), "Counts.", Form((START,), False, "<p>start</p>")),
        TaskDescription(TaskKey("demo.tasks.Checked"), "Checks.", Form((NAME,), True)),
    ),
    (FileError("broken.py", "SyntaxError"),),
    described=1_700_000_000.0,
)
PLAIN, FORMED, CHECKED = (task.key for task in DEMO.tasks)
INFORMATION = NodeInformation(2, 4096, 2048, 150, "full", "0.1.0", "3.11.7", "Linux")
LOG_RULE = "logs are kept for a while"
FINGERPRINTS = ["-".join([letter * 4] * 13) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"]


class CommandsBench(Heart):
    """All commands; ``call`` gives what one answers at once, ``begin`` one that waits."""

    def __init__(self, directory: Path, store: MemoryStore | None = None) -> None:
        super().__init__(store)
        self.workers = ScriptedWorkers(self.clock)
        self.describer = Describer(self.clock, self.wall_clock, self.workers)
        self.library = PackageLibrary(
            self.clock,
            directory / "tasks",
            UploadedPackages(directory / "uploaded"),
            Repository(directory / "packages"),
            self.store,
            self.describer,
            Environments(self.clock, Settings(), directory / "packages", unthreaded, unthreaded),
            unthreaded,
            self.publish,
            2.0,
        )
        self.library._current[DEMO.package] = DEMO
        self.roster = Roster(self.store, self.wall_clock, self.publish, self._no_dialer)
        self.blobs = Blobs(directory / "blobs")
        self.archive = LogArchive(directory / "logs", 1_000_000)
        self.task_logs = TaskLogs(self.clock, self.archive, unthreaded, self.events.wake)
        self._logged: dict[int, int] = {}
        seconds = self.clock.seconds
        self.instances = InstanceCommands(
            self.dispatcher, self.scheduler, self.store, self.events, self.blobs, unthreaded, seconds
        )
        self.history = HistoryCommands(
            self.store, self.instances, self.library, self.task_logs, self.events, seconds, LOG_RULE
        )
        self.nodes = NodeCommands(self.roster, self.scheduler, self.dispatcher, 1, "full")
        self.explanations = ExplanationCommands(self.instances, self.scheduler, self.roster, self.wall_clock)
        self.pauses = PauseCommands(self.instances, self.dispatcher, self.scheduler)
        self.tasks = TaskCommands(self.library, self.store)
        self.payloads = Payloads(self.clock, self.blobs, self.uses, unthreaded)
        self.submissions = Submissions(
            self.library,
            self.describer,
            self.dispatcher,
            self.blobs,
            self.uses,
            self.payloads,
            unthreaded,
            self.wall_clock,
            InstanceId(0),
        )

        self.commands = commands_of(
            self.instances,
            self.history,
            self.nodes,
            self.tasks,
            self.submissions,
            self.explanations,
            self.pauses,
        )

    def _no_dialer(self, *_: object) -> Any:
        raise AssertionError("nobody dials here")

    def begin(self, name: str, **arguments: Any) -> Deferred[Any]:
        """A command, begun; its answer must be JSON."""
        return Deferred.fromCoroutine(self.commands[name](**arguments)).addCallback(_as_json)

    def call(self, name: str, **arguments: Any) -> Any:
        """What a command answers at once."""
        return result_of(self.begin(name, **arguments))

    def queue(self, key: str = PLAIN, **fields: Any) -> int:
        """Submit a task by its command; the id."""
        number: int = self.call("queue_task", task_key=key, args=fields)["instance_id"]
        return number

    def add_nodes(self, count: int) -> None:
        """Nodes that are not connected."""
        nodes = [(f"node{number}", 11890, FINGERPRINTS[number]) for number in range(1, count + 1)]
        self.result(self.roster.load(nodes))

    def connect(self, node: int = 1, slots: int = 2, **changed: Any) -> None:
        """A node says hello."""
        information = msgspec.structs.replace(INFORMATION, **changed)
        self.roster.connected(NodeId(node), slots, information)
        self.dispatcher.feed(inputs.NodeReady(NodeId(node), slots))

    def log(self, instance: int, *texts: str, at: float = 5.0, **fields: Any) -> None:
        """Lines of an instance come; its record may have other fields."""
        lines = [LogLine(at + number, "INFO", "stdout", text) for number, text in enumerate(texts)]
        first = self._logged.get(instance, 0)
        self._logged[instance] = first + len(lines)
        record = LogRecord(Attempt(1, instance), first, len(lines), pack_lines(lines))
        record = msgspec.structs.replace(record, **fields)
        self.task_logs.append(InstanceId(instance), record, lambda _: None)

    def close(self) -> None:
        """Stop; no timer may be left."""
        self.describer.stop()
        self.clock.advance(0)
        super().close()


def packed(value: object) -> bytes:
    """What a worker makes of a result."""
    return payload.pack(value)


def _as_json(answer: Any) -> Any:
    """What comes over HTTP: NaN and keys that are no text would not."""
    return msgspec.json.decode(msgspec.json.encode(answer))
