# SPDX-License-Identifier: MIT
"""Waiting for something while the master may be away for a moment, since it is started again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pydra.cluster.controller import (
    CONTROLLER_ERROR_DISCONNECTED,
    ControllerException,
    ControllerRemoteException,
)
from pydra.errors import ClusterError, StoreError

PATIENCE_S = 60.0
"""Seconds that a master may be away."""

PAUSE_S = 0.5
"""Seconds between two attempts to reach it."""

_PASSING = (ClusterError.code, StoreError.code)
"""What a master answers that is about to end, or whose store takes nothing at the moment."""


class Patience:
    """Of one who waits: how long the master was away."""

    def __init__(
        self,
        seconds: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._seconds = seconds
        self._pause = pause or threading.Event().wait
        self._since: float | None = None

    @property
    def is_away(self) -> bool:
        """The last call did not reach it."""
        return self._since is not None

    def reached(self) -> None:
        """A call was answered."""
        self._since = None

    def bear(self, fault: ControllerException) -> None:
        """Wait a moment, if the fault may pass; raises it if it does not, or has lasted for too long."""
        now = self._seconds()
        since = self._since = now if self._since is None else self._since
        if not _passes(fault) or now - since > PATIENCE_S:
            raise fault
        self._pause(PAUSE_S)


def _passes(fault: ControllerException) -> bool:
    if isinstance(fault, ControllerRemoteException):
        return fault.remote_code in _PASSING
    return fault.code == CONTROLLER_ERROR_DISCONNECTED
