# SPDX-License-Identifier: MIT
"""How a process ended, in words."""

from __future__ import annotations

import signal

_FIRST_SIGNAL = 128


def describe(status: int) -> str:
    """The words for 128 + signal, or an exit code."""
    if status == _FIRST_SIGNAL + signal.SIGSEGV:
        return "segmentation fault (signal 11, SIGSEGV)"
    if status > _FIRST_SIGNAL:
        number = status - _FIRST_SIGNAL
        try:
            return f"killed by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            pass  # then it is an exit code like others
    return f"exited with status {status}"
