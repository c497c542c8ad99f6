# SPDX-License-Identifier: MIT
"""What may be asked for with a run: when, where, for how long, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

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

    def delay_s(self, retry: int) -> float:
        """Seconds to wait before a retry, counted from 0."""
        return min(self.retry_delay * 2.0 ** min(retry, 64), LONGEST_RETRY_DELAY_S)


NO_OPTIONS = RunOptions()
