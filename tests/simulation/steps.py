# SPDX-License-Identifier: MIT
"""
The steps on the way of an instance, and daemons that are killed at one of them.

A step is made of things that are seen from outside: a message that is sent or heard, a change that is asked
for or made, a file that is written. A daemon that is killed at one of them goes on to the end of its turn,
and nothing that it does from then on leaves it; so no product code has to be told of its crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

MASTER = 0
"""Whose step it is; nodes have their numbers."""

SEEN = 0.8
"""How often a daemon is killed at a step that was seen in this run already; others may never come."""

PATIENCE = 0.6
"""How often a daemon that is to be killed somewhere is waited for, when the next one is to be."""


def _both(verb: str, *messages: str) -> tuple[str, ...]:
    """Just before and just after."""
    pairs = {"send": ("sends", "sent"), "hear": ("hears", "heard"), "commit": ("asks", "made")}
    return tuple(f"{word} {message}" for message in messages for word in pairs[verb])


OF_MASTER = {
    "submit": (*_both("commit", "InsertInstance"), "answers a submission"),
    "schedule": ("decides Dispatch", "decides HireWorker", "decides RunUnits"),
    "assign": (*_both("commit", "StartAttempt"), *_both("send", "RunUnit", "HireWorker", "RunUnits")),
    "ask": _both("hear", "UnitsAsked", "UnitsForgotten"),
    "progress": _both("hear", "UnitProgress"),
    "result sent": _both("hear", "UnitFinished", "UnitsDone", "WorkerLost"),
    "result committed": _both("commit", "RecordUnits", "InsertUnits"),
    "acknowledgement sent": _both("send", "Recorded", "UnitsRecorded", "UnitResults"),
    "cancel": (*_both("commit", "MarkCancelling"), *_both("send", "StopUnit", "KillUnit")),
    "pause": (*_both("commit", "MarkPaused"), *_both("send", "PauseUnit")),
    "retry": _both("commit", "RetryInstance", "RequeueInstance"),
    "package send": ("begins a stream", "ended a stream"),
    "log append": (
        *_both("hear", "UnitLog"),
        "writes the archive",
        "wrote the archive",
        *_both("send", "LogStored"),
    ),
    "instance finish": (*_both("commit", "FinishInstance"), "answers a client"),
    "cleanup": _both("send", "ReleaseWorker"),
    "greet": (*_both("send", "MasterHello"), *_both("hear", "NodeHello")),
}
OF_NODE = {
    "accept": _both("hear", "RunUnit", "HireWorker", "RunUnits"),
    "start": ("takes a worker", "took a worker"),
    "ask": _both("send", "UnitsAsked", "UnitsForgotten"),
    "progress": _both("send", "UnitProgress"),
    "result stored at node": ("writes the journal", "wrote the journal"),
    "result sent": _both("send", "UnitFinished", "UnitsDone", "WorkerLost"),
    "acknowledgement sent": _both("hear", "Recorded", "UnitsRecorded", "UnitResults"),
    "cancel": _both("hear", "StopUnit", "KillUnit"),
    "package send": ("begins a stream", "ended a stream"),
    "log append": ("writes a log", "wrote a log", *_both("send", "UnitLog"), *_both("hear", "LogStored")),
    "cleanup": (*_both("hear", "ReleaseWorker"), "loses a worker"),
    "greet": (
        *_both("hear", "MasterHello"),
        "writes the epoch",
        "wrote the epoch",
        *_both("send", "NodeHello"),
    ),
}


def every_step() -> set[str]:
    """Each with what is done at it."""
    return {
        f"{daemon}, {step}: {doing}"
        for daemon, steps in (("master", OF_MASTER), ("node", OF_NODE))
        for step, all_done in steps.items()
        for doing in all_done
    }


class Steps:
    """Springs the one trap that may be set."""

    def __init__(self) -> None:
        self._trap: tuple[bool, str] | None = None
        self._spring: Callable[[int], None] = lambda _: None
        self._passings = 0
        self._name = ""
        self._seen: set[tuple[bool, str]] = set()
        self.latest = ""
        """Where a trap sprang last."""
        self.crashed: Counter[str] = Counter()
        """How often a daemon was killed at what."""

    def set(self, random: Random, spring: Callable[[int], None], *, is_master: bool) -> str:
        """
        Do something to a daemon of this kind when it does what chance decides, some time or other.

        What was to happen before that is given up after a while.
        """
        if self._trap is not None and random.random() < PATIENCE:
            return ""
        steps = OF_MASTER if is_master else OF_NODE
        every = [(step, doing) for step, done in steps.items() for doing in done]
        seen = [one for one in every if (is_master, one[1]) in self._seen]
        step, doing = random.choice(seen if seen and random.random() < SEEN else every)
        self._trap, self._spring = (is_master, doing), spring
        self._passings = random.choice([1, 1, 2, 5])
        self._name = f"{'master' if is_master else 'node'}, {step}: {doing}"
        return self._name

    def clear(self) -> None:
        """Do nothing to anybody."""
        self._trap = None

    def passed(self, who: int, doing: str) -> None:
        """A daemon does this now."""
        self._seen.add((who == MASTER, doing))
        if self._trap != (who == MASTER, doing):
            return
        self._passings -= 1
        if self._passings == 0:
            self._trap = None
            self.latest = self._name
            self._spring(who)
