# SPDX-License-Identifier: MIT
"""A version of a package of tasks, as its sandboxed describe run told."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pydra.model.ids import PackageName, PackageVersion, TaskKey
from pydra.model.options import (
    LONGEST_LIMIT_S,
    LONGEST_RETRY_DELAY_S,
    MOST_RETRIES,
    RETRY_DELAY_S,
    RETRY_LOST,
    Retry,
)


class FormField(msgspec.Struct, frozen=True):
    """
    One declared argument of a task.

    ``kind`` is integer, float, decimal, boolean, text, choice, date, or other: the first seven are checked by
    the master by itself; ``other`` (and a form with ``needs_sandbox``) is checked in a validator sandbox.
    """

    name: str
    kind: str
    label: str = ""
    help: str = ""
    required: bool = True
    initial: str | None = None
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    max_digits: int | None = None
    decimal_places: int | None = None
    strip: bool = True
    empty_value: str | None = ""
    messages: dict[str, str] = {}
    """Error messages of the field, by Django's codes (required, invalid, min_value, ...)."""


class Form(msgspec.Struct, frozen=True):
    """The arguments that a task declares."""

    fields: tuple[FormField, ...]
    needs_sandbox: bool
    """The form has ``clean`` methods, own validators or fields that only its own code can check."""
    html: str = ""


class TaskDescription(msgspec.Struct, frozen=True):
    """What is known of a task without importing it."""

    key: TaskKey
    description: str
    form: Form | None = None
    time_limit: Annotated[float, Meta(ge=0, le=LONGEST_LIMIT_S)] = 0.0
    """Of an instance that asks for none; 0 is no limit. The next two are like that."""
    retries: Annotated[int, Meta(ge=0, le=MOST_RETRIES)] = 0
    retry_delay: Annotated[float, Meta(ge=0, le=LONGEST_RETRY_DELAY_S)] = RETRY_DELAY_S
    retry: Retry = RETRY_LOST
    """Of any instance; who submits one may ask for more than the task, and not for less. So is the next."""
    exclusive: bool = False
    unit_retries: int = 0
    """How many more times it runs a unit that failed."""


class FileError(msgspec.Struct, frozen=True):
    """A file of a package that cannot be used, and why."""

    file: str
    message: str


class TaskLimits(msgspec.Struct, frozen=True):
    """
    What META asks for; 0 and empty are what the node gives anybody.

    No node gives more than its ceilings: it refuses instead.
    """

    memory: int = 0
    """Bytes of memory of all processes together."""
    processes: int = 0
    """Processes and threads."""
    cpus: float = 0.0
    """Cores that may be used, at most."""
    scratch: int = 0
    """Bytes on disk in the scratch directory."""
    network: bool = False
    """The host's network is to be had."""
    isolation: str = ""
    """``full`` if nothing less will do."""


NO_LIMITS = TaskLimits()


class Needs(msgspec.Struct, frozen=True):
    """
    What a package version runs with, beside itself.

    An instance keeps what its package needed when it was accepted, as it keeps the version.
    """

    dependencies: tuple[tuple[PackageName, PackageVersion], ...] = ()
    """The packages that it imports from, directly or not, the nearest first."""
    limits: TaskLimits = NO_LIMITS
    requirements: tuple[str, ...] = ()
    """What pip installs for it and for its dependencies, sorted."""


NO_NEEDS = Needs()


class PackageDescription(msgspec.Struct, frozen=True):
    """A package version: its tasks, and the files that hid themselves by being broken."""

    package: PackageName
    version: PackageVersion
    tasks: tuple[TaskDescription, ...]
    errors: tuple[FileError, ...] = ()
    described: float = 0.0
    needs: Needs = NO_NEEDS
    late: bool = False
    """Some files took too long, or their turn never came: asked again they may tell more."""
