# SPDX-License-Identifier: MIT
"""What a command meets outside: the master, its environment and the time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydra.client.target import Target


class Controller(Protocol):
    """The controller API: any attribute is a function of the master."""

    def __getattr__(self, function: str, /) -> Callable[..., Any]:  # what it answers is the API's own
        """Return the function of that name."""


def connect(target: Target) -> Controller:
    """Return a client of the master; nothing is sent yet."""
    from pydra.cluster.controller.web.controller import WebController

    return WebController(target.host, target.port, str(target.key))


@dataclass(frozen=True)
class Surroundings:
    """What a command meets outside; tests bring their own."""

    connect: Callable[[Target], Controller] = connect
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.time  # noqa: TID251 - what is outside is named here
    """Answers the present instant."""
