# SPDX-License-Identifier: MIT
"""The control and the bulk connection of one link: they come up together and go down together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pydra.cluster.interfaces import BulkSink, LinkUser
from pydra.cluster.wire.connection import HANDSHAKE_S, PeerConnection
from pydra.cluster.wire.link import PBLink, Received
from pydra.cluster.wire.streams import BulkConnection
from pydra.errors import LinkLost


class LinkPair:
    """
    One link.

    For the side that dialled it is up when PB is agreed upon and the bulk connection was welcomed; its first
    batch brings it up for the other side, which holds the bulk connection back until then. So nobody is told
    anything before ``link_up``, nor after ``link_down``, which never comes from within ``Link.close``.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        is_client: bool,
        decode: Callable[[bytes], Received],
        user: LinkUser,
        came_up: Callable[[], None],
        ended: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._is_client = is_client
        self._user = user
        self._came_up = came_up
        self._ended = ended
        self._is_control_ready = False
        self._is_bulk_ready = False
        self._is_up = False
        self._is_over = False
        self._closing: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._connections: list[PeerConnection] = []
        self._bulk_connection: PeerConnection | None = None
        self._link = PBLink(
            reactor,
            is_client,
            decode,
            self._messages_received,
            self._control_ready,
            lambda reason: self.end(reason),
            self._close_soon,
        )
        self._bulk = BulkConnection(
            is_client,
            self._stream_opened,
            self._bulk_ready,
            lambda reason: self.end(f"the bulk connection was lost: {reason}"),
        )

    def attach_control(self, connection: PeerConnection) -> None:
        """This is the control connection."""
        self._connections.append(connection)
        connection.hasten()
        connection.attach(self._link.broker)

    def attach_bulk(self, connection: PeerConnection) -> None:
        """This is the bulk connection."""
        self._connections.append(connection)
        self._bulk_connection = connection
        connection.widen()
        connection.attach(self._bulk)
        if not self._is_client:
            self._deadline = self._reactor.callLater(HANDSHAKE_S, self.end, "it never began to speak")
            connection.hold()
            self._bulk.welcome()

    def end(self, reason: str) -> None:
        """Both connections close; the user is told if it was told that the link is up."""
        if self._is_over:
            return
        self._is_over = True
        for timer in (self._closing, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()
        self._link.silence()
        self._bulk.silence(reason)
        for connection in self._connections:
            connection.lose()
        if self._is_up:
            try:
                self._user.link_down(reason)
            except Exception:  # noqa: BLE001 - an edge: a fault of ours must not keep the next link from coming
                self.log.failure("The end of a link could not be carried out")
        self._ended(reason)

    def _close_soon(self, reason: str) -> None:
        if self._closing is None and not self._is_over:
            self._closing = self._reactor.callLater(0, self.end, reason)

    def _control_ready(self) -> None:
        self._is_control_ready = True
        self._up_if_ready()

    def _bulk_ready(self) -> None:
        self._is_bulk_ready = True
        self._up_if_ready()

    def _up_if_ready(self) -> None:
        if self._is_client and self._is_control_ready and self._is_bulk_ready:
            self._up()

    def _up(self) -> None:
        if self._is_up or self._is_over:
            return
        self._is_up = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._came_up()
        try:
            self._user.link_up(self._link, self._bulk)
        except Exception:  # noqa: BLE001 - an edge: a fault of ours costs this link and no more
            self.log.failure("A new link could not be used")
            self._link.close("a fault here; the log has more")
        self._link.ping()
        if self._bulk_connection is not None:
            self._bulk_connection.release()

    def _messages_received(self, messages: Received) -> None:
        self._up()
        if messages and not self._is_over:
            self._user.messages_received(messages)

    def _stream_opened(self, kind: str, detail: str) -> BulkSink:
        if self._is_over or self._closing is not None:
            raise LinkLost("The link is being closed.")
        return self._user.stream_opened(kind, detail)
