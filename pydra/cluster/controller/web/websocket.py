# SPDX-License-Identifier: MIT
"""
One WebSocket: whole messages within limits, pings, flow control, and an orderly end.

wsproto reads and writes the frames; no extension is ever agreed upon, so nothing is compressed. What the
messages mean is the speaker's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from pydra.cluster.controller.close_codes import GOING_AWAY, INTERNAL, POLICY, TOO_BIG
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.request import Caller
from pydra.cluster.interfaces import OpenSpeaker, Speaker

SILENT_PINGS: Final = 2
"""Pings in a row without an answer, or without room to be sent, after which a peer counts as gone."""


class WebSocket:
    """
    The socket of a client that was let in; the ``interfaces.Socket`` of its speaker.

    ``admits`` tells whether the client's login is still good; it is asked at each ping.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, caller: Caller, limits: Limits, admits: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._caller = caller
        self._limits = limits
        self._admits = admits
        self.address = caller.address
        self._is_blocked = False
        self._connection = Connection(ConnectionType.SERVER)
        self._speaker: Speaker | None = None
        self._bytes = bytearray()
        self._text = StringIO()
        self._size = self._frames = 0
        self._is_greeted = self._is_paused = self._is_reading = self._is_over = False
        self._dropped = self._unsent = self._unanswered = 0
        self._owed_pong: bytes | None = None
        self._timer: IDelayedCall | None = None
        """For the first message; then for the next ping; at last for the peer's agreement to the end."""

    def begin(self, open_speaker: OpenSpeaker) -> None:
        """The upgrade was answered; what comes now is for the speaker."""
        self._timer = self._clock.callLater(self._limits.first_message_s, self._too_late)

        def begin() -> None:
            self._speaker = open_speaker(self)

        self._guarded(begin)

    # What the speaker asks.

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now; a little waits here for a client that is about to read."""
        return not self._is_blocked or self._unsent < self._limits.unsent // 4

    def send(self, message: bytes | str) -> None:
        """Send a message; a peer that lets too much wait is told to go."""
        if self._is_over:
            return
        if self._is_blocked:
            if self._unsent > self._limits.unsent:
                self.close(POLICY, "You read too slowly.")
                return
            self._unsent += len(message)
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        self._caller.write(bytes(self._connection.send(event)))

    def pause(self, paused: bool) -> None:
        """Deliver no more messages, and let the peer feel it; or go on."""
        if paused == self._is_paused or self._is_over:
            return
        self._is_paused = paused
        self._unanswered = 0
        self._caller.read(not paused)
        self._read()

    def close(self, code: int, reason: str = "") -> None:
        """Say why it ends, and wait a moment for the peer to agree; nothing more is delivered."""
        if self._is_over:
            return
        self._is_over = True
        if self._connection.state is ConnectionState.OPEN:
            self._caller.write(bytes(self._connection.send(CloseConnection(code, reason))))
        self._set_timer(self._limits.linger_s, self._caller.abort)
        if self._is_paused:
            self._is_paused = False
            self._caller.read(True)
        self._read()
        self._tell_lost()

    # What the connection tells.

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._is_over:
            self._dropped += len(data)
            if self._dropped > self._limits.linger:
                self._caller.abort()
                return
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._connection.receive_data(data)
            self._read()

    def connection_lost(self) -> None:
        """The connection is gone."""
        self._is_over = True
        self._set_timer(0.0, None)
        self._tell_lost()

    def write_blocked(self, blocked: bool) -> None:
        """What was sent waits for the peer to read, or (not ``blocked``) is on its way."""
        self._is_blocked = blocked
        if blocked or self._is_over:
            return
        self._unsent = self._unanswered = 0
        payload, self._owed_pong = self._owed_pong, None
        if payload is not None:
            self._answer_ping(payload)
        if self._speaker is not None:
            self._guarded(self._speaker.unblocked)

    def going_away(self) -> None:
        """The service stops."""
        self.close(GOING_AWAY, "The master is stopping.")

    # Reading.

    def _read(self) -> None:
        """Take what has arrived, until there is no more of it or the speaker wants a pause."""
        if self._is_reading:
            return
        self._is_reading = True
        # wsproto reads lazily: what is not asked for stays in its buffer.
        while not self._is_paused and (event := next(self._connection.events(), None)) is not None:
            self._happened(event)
        self._is_reading = False

    def _happened(self, event: Event) -> None:
        match event:
            case CloseConnection():
                self._closing(event)
            case _ if self._is_over:
                pass
            case BytesMessage() | TextMessage():
                self._part(event)
            case Ping():
                self._answer_ping(bytes(event.payload))
            case Pong():
                self._unanswered = 0

    def _part(self, event: BytesMessage | TextMessage) -> None:
        """As much of a message as has come."""
        self._size += len(event.data)
        self._frames += event.frame_finished
        if self._size > self._limits.body or self._frames > self._limits.fragments:
            limits = self._limits
            self.close(TOO_BIG, f"A message is at most {limits.body} bytes in {limits.fragments} frames.")
            return
        message: Any = event.data  # of the one type in bytes messages, of the other in text messages
        held: Any = self._text if isinstance(message, str) else self._bytes
        if self._size > len(message) or not event.message_finished:
            (held.write if held is self._text else held.extend)(message)
        if event.message_finished:
            if self._size > len(message):
                message = self._text.getvalue() if held is self._text else bytes(self._bytes)
            self._bytes, self._text = bytearray(), StringIO()
            self._size = self._frames = 0
            self._received(message)

    def _received(self, message: bytes | str) -> None:
        self._unanswered = 0
        if not self._is_greeted:
            self._is_greeted = True
            self._set_timer(self._limits.ping_s, self._ping)
        speaker = self._speaker
        if speaker is not None:
            self._guarded(lambda: speaker.received(message))

    def _closing(self, event: CloseConnection) -> None:
        """The peer ends it, or agreed to our end, or sent what is no WebSocket."""
        match self._connection.state:
            case ConnectionState.REMOTE_CLOSING:
                self._is_over = True
                self._caller.write(bytes(self._connection.send(event.response())))
                self._lose()
            case ConnectionState.CLOSED:
                self._lose()
            case _:
                self.close(event.code, event.reason or "")

    def _lose(self) -> None:
        self._set_timer(0.0, None)
        self._caller.loseConnection()
        self._tell_lost()

    def _answer_ping(self, payload: bytes) -> None:
        if self._is_blocked:
            self._owed_pong = payload  # the latest is enough
        else:
            self._caller.write(bytes(self._connection.send(Pong(payload))))

    # Time.

    def _ping(self) -> None:
        self._timer = None
        if not self._admits():
            self.close(POLICY, "Your login has ended; log in again.")
        elif self._unanswered >= SILENT_PINGS:
            self._is_over = True
            self._caller.abort()
            self._tell_lost()
        else:
            # While we do not read, no answer is seen; but a peer that is gone shows when it is written to.
            self._unanswered += self._is_blocked or not self._is_paused
            if not self._is_blocked:
                self._caller.write(bytes(self._connection.send(Ping())))
            self._set_timer(self._limits.ping_s, self._ping)

    def _too_late(self) -> None:
        self._timer = None
        self.close(POLICY, f"Nothing was said for {self._limits.first_message_s:g} s.")

    def _set_timer(self, seconds: float, call: Callable[[], object] | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, call) if call is not None else None

    def _tell_lost(self) -> None:
        speaker, self._speaker = self._speaker, None
        if speaker is not None:
            self._guarded(speaker.lost)

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - the edge of the daemon: a fault costs one socket only
            self._log.failure("A WebSocket of {address} met an internal error", address=self.address)
            self.close(INTERNAL, "Internal error; see the master's log.")
