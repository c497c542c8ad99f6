# SPDX-License-Identifier: MIT
"""
Asking for a task to be run: nothing is queued before its arguments were checked, and no id answered before it
is committed.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Mapping

from pydra.cluster.interfaces import InThread
from pydra.cluster.master.commands.objects import JSON
from pydra.cluster.master.commands.options import read_options, session_options, unknown_instances
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.endings import dependencies
from pydra.cluster.master.packages.describer import Describer
from pydra.cluster.master.packages.library import PackageLibrary
from pydra.cluster.master.payloads.unclaimed import Payloads
from pydra.cluster.master.payloads.uses import BlobUses
from pydra.cluster.packages.validation import validate
from pydra.cluster.store.blobs import Blobs
from pydra.cluster.wire import payload
from pydra.errors import InvalidParameters, StoreError, WireError
from pydra.model.ids import InstanceId, TaskKey
from pydra.model.instance import INLINE_LIMIT, Instance, Payload
from pydra.model.options import RunOptions
from pydra.model.package import PackageDescription, TaskDescription
from pydra.model.status import Status
from pydra.model.unit import SESSION_TASK

FORM_LIMIT = 1024 * 1024
"""Bytes of packed arguments that the form of a task is asked about."""


class Submissions:
    """Accepts instances; ``highest`` is the highest id that was ever given."""

    def __init__(
        self,
        library: PackageLibrary,
        describer: Describer,
        dispatcher: Dispatcher,
        blobs: Blobs,
        uses: BlobUses,
        payloads: Payloads,
        in_thread: InThread,
        wall_clock: Callable[[], float],
        highest: InstanceId,
    ) -> None:
        self._library = library
        self._describer = describer
        self._dispatcher = dispatcher
        self._blobs = blobs
        self._uses = uses
        self._payloads = payloads
        self._in_thread = in_thread
        self._wall_clock = wall_clock
        self._highest = highest

    async def queue_task(
        self,
        task_key: str,
        args: Mapping[str, object] | None = None,
        request_key: str | None = None,
        options: Mapping[str, object] | None = None,
        args_payload: str | None = None,
        args_packed: str | None = None,
    ) -> JSON:
        """
        ``{task_key, instance_id, time}``, or ``{task_key, errors}`` if arguments or options are not good.

        The ``options`` are those of ``RunOptions``; an error of one is told by ``options.<name>``.
        In the place of ``args``, ``args_packed`` may be their MessagePack (base64), or ``args_payload`` the
        SHA-256 (hex) of what was sent before.
        """
        try:
            sent = await self._sent(args, args_payload, args_packed)
            instance, queued = await self._submit(task_key, sent, request_key or "", options)
        except InvalidParameters as fault:
            return {"task_key": task_key, "errors": fault.errors or {"": [str(fault)]}}
        return {"task_key": task_key, "instance_id": instance, "time": queued}

    async def run_tasks(
        self,
        task_key: str,
        args: Mapping[str, object] | None = None,
        request_key: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> int:
        """The id of the new instance; `InvalidParameters` with the errors by field."""
        instance, _ = await self._submit(task_key, dict(args or {}), request_key or "", options)
        return instance

    async def open_session(
        self, task_key: str, options: Mapping[str, object], request_key: str
    ) -> InstanceId:
        """The id of a new instance whose units come from a client, or of the one that has the request key."""
        description, task = self._library.find(task_key)
        unit_time_limit, wanted = session_options(options, task)
        run = await self._known(wanted)
        own = {"task": task_key} | ({"unit_time_limit": unit_time_limit} if unit_time_limit else {})
        args = await self._kept(payload.pack(own))
        return await self._accept(SESSION_TASK, description, args, request_key, self._wall_clock(), run)

    async def _submit(
        self,
        task_key: str,
        args: dict[str, object] | Payload,
        request_key: str,
        wanted: Mapping[str, object] | None,
    ) -> tuple[InstanceId, float]:
        description, task = self._library.find(task_key)
        options = await self._known(read_options(wanted, task))
        if isinstance(args, Payload):
            held = await self._taken(description, task, args)
        else:
            held = await self._checked(description, task, args)
        queued = self._wall_clock()
        accepted = await self._accept(TaskKey(task_key), description, held, request_key, queued, options)
        return accepted, queued

    async def _checked(
        self, description: PackageDescription, task: TaskDescription, args: dict[str, object]
    ) -> Payload:
        """The arguments, if the task's form takes them."""
        cleaned = await self._clean(description, task, args)
        try:
            packed = payload.pack(cleaned)
        except (TypeError, ValueError) as fault:
            raise InvalidParameters(str(fault)) from None
        return await self._kept(packed)

    async def _taken(self, description: PackageDescription, task: TaskDescription, sent: Payload) -> Payload:
        """Arguments that were sent before: looked into if there is a form, and otherwise as they are."""
        if task.form is None and sent.size > INLINE_LIMIT:
            sent = self._payloads.find(sent.sha256)  # it may be gone since it was looked for
            self._payloads.claim(sent.sha256)
            await self._uses.hold(sent.sha256)
            return sent
        if sent.size > FORM_LIMIT:
            told = f"The arguments are {sent.size / 2**20:.1f} MiB; a task with a form takes up to 1 MiB."
            raise InvalidParameters(errors={"": [told]})
        self._payloads.claim(sent.sha256)
        data: bytes = await self._in_thread(self._blobs.read, sent.sha256)
        return await self._checked(description, task, await self._unpacked(data, "args_payload"))

    async def _sent(
        self, args: Mapping[str, object] | None, digest: str | None, packed: str | None
    ) -> dict[str, object] | Payload:
        """The arguments, in whichever way they came."""
        if bool(args) + (digest is not None) + (packed is not None) > 1:
            raise InvalidParameters(errors={"args": ["arguments can be given in one way only."]})
        if digest is not None:
            return self._payloads.find(digest)
        if packed is None:
            return dict(args or {})
        try:
            data = binascii.a2b_base64(packed, strict_mode=True)
        except ValueError:
            raise InvalidParameters(errors={"args_packed": ["this is no base64."]}) from None
        return await self._unpacked(data, "args_packed")

    async def _unpacked(self, data: bytes, name: str) -> dict[str, object]:
        """Arguments that a client packed, under the name of a parameter."""
        try:
            args = await self._in_thread(payload.unpack, data)
        except WireError as fault:
            raise InvalidParameters(errors={name: [str(fault)]}) from None
        if not isinstance(args, dict) or not all(isinstance(each, str) for each in args):
            raise InvalidParameters(errors={name: ["the arguments are no map of names to values."]})
        return args

    async def _accept(
        self,
        task_key: TaskKey,
        description: PackageDescription,
        args: Payload,
        request_key: str,
        queued: float,
        options: RunOptions,
    ) -> InstanceId:
        """The id of an instance; the blob of its arguments, which is held, stays if it is stored."""
        self._highest = InstanceId(self._highest + 1)
        instance = Instance(
            id=self._highest,
            task_key=task_key,
            package=description.package,
            version=description.version,
            args=args,
            status=Status.QUEUED,
            queued=queued,
            request_key=request_key,
            needs=description.needs,
            priority=options.priority,
            options=options,
        )
        is_stored = True
        try:
            accepted, is_stored = await self._dispatcher.submit(instance)
        except StoreError:
            is_stored = False
            raise
        finally:
            if args.sha256:
                if is_stored:
                    self._uses.keep(args.sha256)
                self._uses.let_go(args.sha256)
        return accepted

    async def _known(self, options: RunOptions) -> RunOptions:
        """The options, if what they depend on is known."""
        unknown = await self._dispatcher.endings.unknown(dependencies(options))
        if unknown:
            raise unknown_instances(options, unknown)
        return options

    async def _clean(
        self, description: PackageDescription, task: TaskDescription, args: dict[str, object]
    ) -> dict[str, object]:
        if task.form is None:
            return args
        if task.form.needs_sandbox:
            return await self._describer.validate(
                description.package, description.version, task.key, args, description.needs
            )
        cleaned, errors = validate(task.form, args)
        if errors:
            raise InvalidParameters(errors=errors)
        return cleaned

    async def _kept(self, packed: bytes) -> Payload:
        """The arguments as they are stored; a blob of them is held."""
        if len(packed) <= INLINE_LIMIT:
            return Payload(len(packed), inline=packed)
        digest = hashlib.sha256(packed).hexdigest()
        await self._uses.hold(digest)
        try:
            await self._in_thread(self._blobs.put, packed)
        except BaseException:
            self._uses.let_go(digest)
            raise
        return Payload(len(packed), sha256=digest)
