# SPDX-License-Identifier: MIT
"""What the client of a session says over its WebSocket, one message after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.controller.close_codes import INTERNAL, NORMAL, POLICY, UNSUPPORTED
from pydra.cluster.controller.session_messages import (
    LARGEST_INDEX,
    Attach,
    Close,
    Ended,
    Open,
    Refused,
    ToClient,
    ToSession,
    Units,
    decode_to_session,
    encode,
)
from pydra.cluster.interfaces import Socket
from pydra.cluster.master.sessions.held_session import HeldSession
from pydra.errors import InternalError, PydraError, RequestError, WireError

Find = Callable[[Open | Attach], Awaitable[HeldSession | Ended]]
"""The session that a client opens or goes on with, or how it ended; a `PydraError` if there is none."""


class SessionSpeaker:
    """
    An ``interfaces.Speaker``, and the ``Client`` of a session.

    A message waits while the one before it is being carried out, or there is no room for its units; no more
    are read then.
    """

    log = Logger()

    def __init__(self, socket: Socket, find: Find) -> None:
        self._socket = socket
        self._find = find
        self._session: HeldSession | None = None
        self._waiting: deque[ToSession] = deque()
        self._is_busy = self._is_going_on = False
        self.is_lost = False

    # What the socket tells.

    def received(self, message: bytes | str) -> None:
        """A message of the client."""
        if isinstance(message, str):
            self._socket.close(UNSUPPORTED, "Sessions are binary messages.")
            return
        try:
            self._waiting.append(decode_to_session(message))
        except WireError as fault:
            self._send_away(fault)
            return
        self.go_on()

    def unblocked(self) -> None:
        """The client reads again."""
        if self._session is not None:
            self._session.unblocked()

    def lost(self) -> None:
        """The client is gone."""
        self.is_lost = True
        self._waiting.clear()
        if self._session is not None:
            self._session.lost(self)

    # What the session tells.

    @property
    def has_room(self) -> bool:
        """Whether more may be told now."""
        return self._socket.has_room

    def tell(self, message: ToClient) -> None:
        """Send a message."""
        self._socket.send(encode(message))

    def close(self, reason: str) -> None:
        """Send the client away; it was told why."""
        self._socket.close(NORMAL, reason)

    def go_on(self) -> None:
        """Carry out what waits, as far as there is room for it."""
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while self._waiting and not self._is_busy:
                message = self._waiting.popleft()
                if not self._carry_out(message):
                    self._waiting.appendleft(message)
                    break
        except WireError as fault:
            self._send_away(fault)
        finally:
            self._is_going_on = False
        if not self.is_lost:
            self._socket.pause(bool(self._waiting) or self._is_busy)

    def _carry_out(self, message: ToSession) -> bool:
        """Carry out a message; false if it has to wait."""
        session = self._session
        if isinstance(message, Open | Attach):
            if session is not None:
                raise WireError("There is a session on this socket already.")
            self._is_busy = True
            Deferred.fromCoroutine(self._begin(message)).addErrback(self._failed)
            return True
        if session is None:
            raise WireError("Open a session, or attach to one, first.")
        if isinstance(message, Close):
            session.close()
            return True
        return self._take(session, message)

    def _take(self, session: HeldSession, message: Units) -> bool:
        given, count = message.indexes, len(message.args)
        indexes = list(range(given, given + count)) if isinstance(given, int) else given
        if not count and not indexes:
            raise WireError("A message of units has at least one.")
        if len(set(indexes)) != count or len(indexes) != count or indexes[-1] > LARGEST_INDEX:
            raise WireError("A message of units has one index, each its own, for each argument.")
        try:
            return session.take(given, indexes, message.args)
        except PydraError as fault:
            self.tell(Refused(fault.code, str(fault), indexes))
            return True

    async def _begin(self, message: Open | Attach) -> None:
        try:
            found = await self._find(message)
        except PydraError as fault:
            if isinstance(fault, InternalError):
                raise
            self.tell(Refused(fault.code, str(fault)))
        else:
            if isinstance(found, Ended):
                self.tell(found)
                self.close("The session has ended.")
            else:
                self._session = found
                await found.attach(self, message.indexes if isinstance(message, Attach) else ())
        self._is_busy = False
        self.go_on()

    def _failed(self, fault: Failure) -> None:
        self.log.failure("A session was not opened", fault)
        self._socket.close(INTERNAL, "Internal error; see the master's log.")

    def _send_away(self, fault: RequestError | WireError) -> None:
        self._waiting.clear()
        self.tell(Refused(fault.code, str(fault)))
        self._socket.close(POLICY, str(fault))
