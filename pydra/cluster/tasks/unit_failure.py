# SPDX-License-Identifier: MIT
"""What a parallel task makes of units that failed, and of a datasource that did."""

from __future__ import annotations

from reprlib import Repr
from sys import intern

from pydra.cluster.tasks.failure import FailedBelow, ToldTraceback, failure_of
from pydra.errors import TaskError, TaskFailed

ITEM_WORDS = 60
"""Characters of an item in the words of a failure."""

SHORT_MESSAGE = 80
"""Characters of the message of a failure of which not all is kept."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = ITEM_WORDS

KINDS = 'failure_policy is "fail_fast", "collect" or ("threshold", N), N a number of units or a share'


class UnitFailure:
    """
    Why a unit failed, after its retries: the stable ``code`` of the error, and words for people.

    ``item`` is its item in words, shortened; empty if that was nothing.
    """

    __slots__ = ("code", "index", "item", "message", "path", "traceback")

    def __init__(
        self, path: str, index: int, code: str, message: str, traceback: str, item: str = ""
    ) -> None:
        self.path = path
        self.item = item
        self.index = index
        self.code = code
        self.message = message
        self.traceback = traceback

    def shorten(self) -> None:
        """Keep what a million of them may keep: which unit it was, and the begin of why."""
        self.item = self.traceback = ""
        self.message = intern(self.message[:SHORT_MESSAGE])

    def __str__(self) -> str:
        item = f" (item {self.item})" if self.item else ""
        return f"Unit {self.path}{item} failed: {self.message}"


def item_in_words(item: object) -> str:
    """An item for people, in at most 60 characters; never raises."""
    if item is None:
        return ""
    try:
        text = _SHORT.repr(item[:ITEM_WORDS] if isinstance(item, bytes) else item)
    except BaseException:  # noqa: BLE001 - an item may be of the author's own class
        return type(item).__name__
    return text if len(text) <= ITEM_WORDS else f"{text[: ITEM_WORDS - 3]}..."


class UnitFailed(FailedBelow):
    """A unit failed, and the failure policy lets the whole task fail."""

    def __init__(self, failure: UnitFailure, why: str = "") -> None:
        self.failure = failure
        self.code = failure.code
        self.__cause__ = ToldTraceback(failure.traceback) if failure.traceback else None
        super().__init__(f"{failure}{why}")


class DatasourceFailed(FailedBelow):
    """The datasource raised, or gave something that cannot be sent."""

    def __init__(self, message: str, code: str = TaskFailed.code) -> None:
        self.code = code
        super().__init__(message)


def datasource_failure(what: str, fault: Exception) -> DatasourceFailed:
    """The failure that says what an author's datasource raised, and where."""
    told = failure_of(fault)
    # That the arguments of a call in here are wrong says nothing of those of the task.
    is_call = isinstance(fault, TypeError)
    words, code = (f"TypeError: {fault}", TaskFailed.code) if is_call else (told.message, told.code)
    return DatasourceFailed(f"{what}: {words}", code)


class FailurePolicy:
    """How many units may fail: none, any, a number, or a share of all."""

    __slots__ = ("_number", "_share")

    def __init__(self, policy: object) -> None:
        self._number: int | None = None
        self._share: float | None = None
        if policy == "fail_fast":
            self._number = 0
        elif policy != "collect":
            self._set_threshold(policy)

    def _set_threshold(self, policy: object) -> None:
        if isinstance(policy, tuple | list) and len(policy) == 2 and policy[0] == "threshold":
            limit = policy[1]
            if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0:
                self._number = limit
                return
            if isinstance(limit, float) and 0 <= limit <= 1:
                self._share = limit
                return
        raise TaskError(f"{KINDS} from 0.0 to 1.0; it is {policy!r}.")

    def objection(self, failed: int, total: int | None) -> str | None:
        """What to add to the failure that was one too many; None while as many may fail."""
        if self._number is not None and failed > self._number:
            return f" ({failed} units failed; failure_policy allows {self._number})" if self._number else ""
        if self._share is not None and total is not None and failed > self._share * total:
            return f" ({failed} of {total} units failed; failure_policy allows {self._share:.0%})"
        return None
