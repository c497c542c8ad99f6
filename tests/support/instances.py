# SPDX-License-Identifier: MIT
"""Instances and what belongs to them, with every field filled in sensibly."""

from __future__ import annotations

from typing import Any

import msgspec

from pydra.model.ids import Attempt, InstanceId, NodeId, PackageName, PackageVersion, TaskKey, WorkerKey
from pydra.model.instance import Instance, Payload
from pydra.model.node import Node, NodeInformation
from pydra.model.package import FileError, Form, FormField, PackageDescription, TaskDescription
from pydra.model.status import Status

VERSION = PackageVersion("ab" * 32)
WORKER = WorkerKey("node1:11890:0")


def queued_instance(number: int, **changes: Any) -> Instance:
    """An instance that was just accepted; any field can be given."""
    instance = Instance(
        id=InstanceId(number),
        task_key=TaskKey("demo.tasks.Count"),
        package=PackageName("demo"),
        version=VERSION,
        args=Payload(3, b"\x81\xa1a"),
        status=Status.QUEUED,
        queued=1700000000.25 + number,
    )
    return msgspec.structs.replace(instance, **changes)


def attempt(number: int = 1, epoch: int = 1) -> Attempt:
    """An attempt."""
    return Attempt(epoch, number)


def node_record(number: int, **changes: Any) -> Node:
    """A node that was seen; any field can be given."""
    information = NodeInformation(2, 4096, 2048, 150, "full", "0.1.0", "3.11.7", "Linux")
    node = Node(NodeId(number), f"node{number}", 11890, "ABCD-EFGH", 2, information, 1700000000.5)
    return msgspec.structs.replace(node, **changes)


def package_description(name: str = "demo", **changes: Any) -> PackageDescription:
    """A package with a task that has a form, and a broken file; any field can be given."""
    field = FormField("start", "integer", minimum=0.0, choices=(("a", "A"),), messages={"required": "Say."})
    description = PackageDescription(
        package=PackageName(name),
        version=VERSION,
        tasks=(TaskDescription(TaskKey(f"{name}.tasks.Count"), "Counts.", Form((field,), False)),),
        errors=(FileError("broken.py", "SyntaxError"),),
        described=1700000000.75,
    )
    return msgspec.structs.replace(description, **changes)
