# SPDX-License-Identifier: MIT
"""Units of which a test says what comes of them, and when; and a clock that waiting for them moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydra.cluster.interfaces import Answered
from pydra.cluster.wire import payload

Script = Callable[["ScriptedUnits"], Sequence[Answered]]


class ScriptedUnits:
    """What was asked for, kept until the script answers it; each wait for answers calls the script once."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.outstanding: dict[tuple[str, int], bytes] = {}
        self.asked: list[tuple[float, str, list[int], float]] = []
        """When, of which branch, which indexes, with what time limit."""
        self.guarantees: list[int] = []
        """The same asks' guarantees."""
        self.forgotten: list[str] = []
        self.most = 0
        """Units that were outstanding together."""
        self.most_bytes = 0
        self.waits: list[float] = []
        self.now = 0.0

    def clock(self) -> float:
        """The seconds that waiting has taken so far."""
        return self.now

    def ask(
        self,
        branch: str,
        indexes: Sequence[int],
        args: Sequence[bytes],
        time_limit: float = 0.0,
        guarantee: int = 0,
    ) -> None:
        """Keep it."""
        self.asked.append((self.now, branch, list(indexes), time_limit))
        self.guarantees.append(guarantee)
        for index, packed in zip(indexes, args, strict=True):
            assert (branch, index) not in self.outstanding
            self.outstanding[branch, index] = packed
        self.most = max(self.most, len(self.outstanding))
        self.most_bytes = max(self.most_bytes, sum(map(len, self.outstanding.values())))

    def answers(self, timeout: float | None = None) -> Sequence[Answered]:
        """What the script says; time passes if that is nothing."""
        assert timeout is not None
        self.waits.append(timeout)
        found = self.script(self)
        if not found:
            self.now += timeout
        return found

    def forget(self, branch: str) -> None:
        """Note it."""
        self.forgotten.append(branch)
        for key in [key for key in self.outstanding if key[0] == branch]:
            del self.outstanding[key]

    def path(self, branch: str) -> str:
        """As of instance 3."""
        return f"3/{branch}"

    def complete(self, branch: str, index: int, result: object = None) -> Answered:
        """An outstanding unit ends well."""
        del self.outstanding[branch, index]
        return branch, index, payload.pack(result), None

    def fail(self, branch: str, index: int, code: str = "failed", message: str = "no") -> Answered:
        """An outstanding unit fails."""
        del self.outstanding[branch, index]
        return branch, index, b"", (code, message, "Traceback of the unit\n")


def all_complete(units: ScriptedUnits) -> list[Answered]:
    """A script by which each unit returns its item, the latest first."""
    return [
        units.complete(branch, index, _data(packed))
        for (branch, index), packed in reversed(list(units.outstanding.items()))
    ]


def _data(packed: bytes) -> object:
    arguments = payload.unpack(packed)
    assert isinstance(arguments, dict)
    return arguments["data"]
