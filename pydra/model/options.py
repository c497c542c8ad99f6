# SPDX-License-Identifier: MIT
"""What may be asked for with a run: when, where, for how long, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pydra.model.ids import InstanceId

LABEL_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9_.:=-]{0,63}\Z"
RESOURCE_PATTERN = r"\A[a-z][a-z0-9_]{0,31}\Z"
MOST_AMOUNT = 1e9

Label = Annotated[str, Meta(pattern=LABEL_PATTERN)]
"""What may be said of a node in a word."""

ResourceName = Annotated[str, Meta(pattern=RESOURCE_PATTERN)]

Amount = Annotated[float, Meta(ge=0, le=MOST_AMOUNT)]
"""Of a resource; thousandths of it count."""

MOST_LABELS = 64
MOST_RESOURCES = 32

PRIORITY = 5
"""Of what asks for none; smaller runs first."""

RETRY_DELAY_S = 1.0
"""Before the first retry, if nothing else is said."""

LONGEST_RETRY_DELAY_S = 86_400.0
"""The delay doubles with each retry, up to this."""

LONGEST_LIMIT_S = 31_536_000.0

MOST_RETRIES = 1000

Retry = Literal["lost", "never"]
"""When an attempt that was lost is run again: if it was lost (up to the poison limit), or never."""

RETRY_LOST: Retry = "lost"
RETRY_NEVER: Retry = "never"


class Guarantee(IntFlag):
    """What is promised of the attempts of a unit beside that there is one; the numbers cross the wire."""

    NONE = 0
    ONCE = 1
    """It is run at most once: what is lost has failed."""
    EXCLUSIVE = 2
    """No two attempts of it are alive at the same time."""


class Dependency(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Instances that have to end first.

    It is met when all of them (or, without ``all``, one of them) ended as wanted: COMPLETE with ``success``,
    FAILED or CANCELLED with ``failure``.
    """

    instances: tuple[InstanceId, ...]
    all: bool = True
    success: bool = True
    failure: bool = False


class RunOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an instance is run."""

    priority: int = PRIORITY
    """Smaller runs first."""
    time_limit: float = 0.0
    """Seconds that one attempt of the whole instance may take; 0 is no limit."""
    retries: int = 0
    """How often it is run again after it failed."""
    retry_delay: float = RETRY_DELAY_S
    """Seconds before the first retry; each further one waits twice as long."""
    resources: Mapping[str, float] = {}
    """What each worker of it holds on its node, by name; memory in MB. Counted in thousandths."""
    labels: tuple[str, ...] = ()
    """All of them must be on the node; sorted, each once."""
    after: Dependency | None = None
    """What has to end before it may run."""
    follow: Dependency | None = None
    """As ``after``, and it runs only where those ran: on a node of all of them, or of one of them."""
    retry: Retry = RETRY_LOST
    """``never``: it and its units are run at most once; then there are no ``retries``."""
    exclusive: bool = False
    """No two attempts of it, nor of one of its units, are alive at the same time."""

    @property
    def guarantee(self) -> Guarantee:
        """What ``retry`` and ``exclusive`` ask for."""
        once = Guarantee.ONCE if self.retry == RETRY_NEVER else Guarantee.NONE
        return once | Guarantee.EXCLUSIVE if self.exclusive else once

    def delay_s(self, retry: int) -> float:
        """Seconds to wait before a retry, counted from 0."""
        return min(self.retry_delay * 2.0 ** min(retry, 64), LONGEST_RETRY_DELAY_S)


NO_OPTIONS = RunOptions()
