# SPDX-License-Identifier: MIT
"""Values as rows and rows as values; the columns are those of ``models.InstanceRow``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pydra.model.ids import Attempt
from pydra.model.instance import Failure, Instance, Payload
from pydra.model.options import NO_OPTIONS, RunOptions
from pydra.model.package import NO_NEEDS, Needs
from pydra.model.status import Status

INSTANCE_COLUMNS = (
    "id",
    "task_key",
    "package",
    "version",
    "args_size",
    "args_inline",
    "args_sha256",
    "status",
    "queued",
    "priority",
    "request_key",
    "started",
    "completed",
    "attempt_epoch",
    "attempt_number",
    "node",
    "worker",
    "losses",
    "result_size",
    "result_inline",
    "result_sha256",
    "failure_code",
    "failure_message",
    "failure_traceback",
    "needs",
    "options",
    "retried",
    "not_before",
)

Cells = tuple[int | float | str | bytes | None, ...]
"""What a row is made of."""


def instance_row(instance: Instance) -> Cells:
    """The cells of an instance, in the order of ``INSTANCE_COLUMNS``."""
    args, attempt = instance.args, instance.attempt
    return (
        instance.id,
        instance.task_key,
        instance.package,
        instance.version,
        args.size,
        args.inline,
        args.sha256,
        int(instance.status),
        instance.queued,
        instance.priority,
        instance.request_key,
        instance.started,
        instance.completed,
        attempt.epoch if attempt else None,
        attempt.number if attempt else None,
        instance.node,
        instance.worker,
        instance.losses,
        *payload_cells(instance.result),
        *failure_cells(instance.failure),
        b"" if instance.needs == NO_NEEDS else msgspec.msgpack.encode(instance.needs),
        b"" if instance.options == NO_OPTIONS else msgspec.msgpack.encode(instance.options),
        instance.retried,
        instance.not_before,
    )


def payload_cells(payload: Payload | None) -> Cells:
    """Size, bytes and name of a payload."""
    return (payload.size, payload.inline, payload.sha256) if payload else (None, None, None)


def failure_cells(failure: Failure | None) -> Cells:
    """Code, message and traceback of a failure."""
    return (failure.code, failure.message, failure.traceback) if failure else (None, None, None)


def instance_value(row: Sequence[Any]) -> Instance:
    """The instance of a row with ``INSTANCE_COLUMNS``; the database gives cells of any type."""
    ident, task_key, package, version, args_size, args_inline, args_sha256 = row[:7]
    status, queued, priority, request_key, started, completed = row[7:13]
    epoch, number, node, worker, losses = row[13:18]
    result_size, result_inline, result_sha256, code, message, traceback = row[18:24]
    needs, options, retried, not_before = row[24:]
    return Instance(
        id=ident,
        task_key=task_key,
        package=package,
        version=version,
        args=Payload(args_size, bytes(args_inline), args_sha256),
        status=Status(status),
        queued=queued,
        priority=priority,
        request_key=request_key,
        started=started,
        completed=completed,
        attempt=None if number is None else Attempt(epoch, number),
        node=node,
        worker=worker,
        losses=losses,
        result=None if result_size is None else Payload(result_size, bytes(result_inline), result_sha256),
        failure=None if code is None else Failure(code, message, traceback),
        needs=msgspec.msgpack.decode(needs, type=Needs) if needs else NO_NEEDS,
        options=msgspec.msgpack.decode(options, type=RunOptions) if options else NO_OPTIONS,
        retried=retried,
        not_before=not_before,
    )
