# SPDX-License-Identifier: MIT
"""Descriptors that the reactor watches, and as little as they need of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


class Reactor(Protocol):
    """What this package needs of Twisted's reactor: descriptors and time."""

    # Signatures as in IReactorFDSet and IReactorTime, which no annotation can join.
    def addReader(self, reader: Any) -> None: ...  # noqa: N802, D102
    def removeReader(self, reader: Any) -> None: ...  # noqa: N802, D102
    def addWriter(self, writer: Any) -> None: ...  # noqa: N802, D102
    def removeWriter(self, writer: Any) -> None: ...  # noqa: N802, D102
    def seconds(self) -> float: ...  # noqa: D102
    def callLater(  # noqa: N802, D102
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall: ...


@implementer(IReadWriteDescriptor)
class Descriptor:
    """
    One descriptor that the reactor may watch; what happens to it is told to the two functions.

    ``broken`` is called if one of them raised (which the reactor has logged then). When the other end hangs
    up, there is something to read: the end.
    """

    def __init__(
        self,
        reactor: Reactor,
        number: int,
        readable: Callable[[], None],
        writable: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._number = number
        self._readable = readable
        self._writable = writable
        self._broken = broken

    def read(self, wanted: bool) -> None:
        """Watch it for something to read, or do not."""
        if wanted:
            self._reactor.addReader(self)
        else:
            self._reactor.removeReader(self)

    def write(self, wanted: bool) -> None:
        """Watch it for room to write, or do not."""
        if wanted:
            self._reactor.addWriter(self)
        else:
            self._reactor.removeWriter(self)

    def forget(self) -> None:
        """Watch it no longer; after this it may be closed."""
        self.read(False)
        self.write(False)

    # What the reactor calls.

    def fileno(self) -> int:  # noqa: D102
        return self._number

    def logPrefix(self) -> str:  # noqa: N802, D102
        return "sandbox"

    def doRead(self) -> None:  # noqa: N802, D102
        self._readable()

    def doWrite(self) -> None:  # noqa: N802, D102
        self._writable()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802, D102
        if reason.check(ConnectionDone, ConnectionLost):
            self._readable()
        else:
            self._broken()
