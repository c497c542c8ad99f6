# SPDX-License-Identifier: MIT
"""
Until when sandboxes may live that nobody gives more time, though their daemon stands still.

Times are of the boot-time clock. It cannot be set, is the same for daemon and launcher, and goes on while the
machine is suspended; so does the timer, which is due at once when the machine wakes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

_ABSOLUTE = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Setting(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


def boottime() -> float:
    """Seconds of the boot-time clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Deadlines:
    """The times of sandboxes, by number; its descriptor can be read when one has passed."""

    def __init__(self, now: Callable[[], float] = boottime) -> None:
        self._now = now
        self._at: dict[int, float] = {}
        self._timer: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """The descriptor."""
        return self._timer

    def put(self, number: int, at: float) -> None:
        """This one may live until then, whatever was said before."""
        self._at[number] = at
        self._arm()

    def forget(self, number: int) -> None:
        """It has ended."""
        if self._at.pop(number, None) is not None:
            self._arm()

    def take_due(self) -> list[int]:
        """Those whose time has passed, once."""
        with contextlib.suppress(BlockingIOError):  # another time was set meanwhile
            os.read(self._timer, 8)
        now = self._now()
        due = [number for number, at in self._at.items() if at <= now]
        for number in due:
            del self._at[number]
        self._arm()
        return due

    def close(self) -> None:
        """Leave no descriptor behind."""
        os.close(self._timer)

    def _arm(self) -> None:
        # All zeros would be no time at all.
        at = max(1, int(min(self._at.values()) * 1e9)) if self._at else 0
        setting = _Setting(0, 0, *divmod(at, 10**9))
        if _libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
