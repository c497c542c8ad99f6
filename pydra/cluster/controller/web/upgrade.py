# SPDX-License-Identifier: MIT
"""
``GET /ws``: from a request of a known caller to a WebSocket.

The subprotocol that the client names says what is spoken there. A browser may only come from a page of this
same master; a program sends no ``Origin``.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from wsproto.utilities import generate_accept_token

from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.request import ControllerRequest, error_body
from pydra.cluster.controller.web.websocket import WebSocket
from pydra.cluster.interfaces import Speakers
from pydra.errors import Forbidden, RequestError

PATH: Final = b"/ws"
_VERSION: Final = "13"
_KEY_SIZE: Final = 16
_UPGRADE: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
_NOT_UPGRADED: Final = error_body("upgrade", "Here is a WebSocket, version 13; ask for the upgrade.")
_OTHER_ORIGIN: Final = error_body(Forbidden.code, "A page of another origin may not do this.")


class Upgrades:
    """Makes WebSockets; ``speakers`` has those that are spoken, by the name of their subprotocol."""

    def __init__(self, clock: IReactorTime, limits: Limits, speakers: Speakers) -> None:
        self._clock = clock
        self._limits = limits
        self._speakers = speakers

    def begin(self, request: ControllerRequest, admits: Callable[[], bool]) -> None:
        """
        Make the connection of a request a WebSocket, or answer why not.

        The caller was let in already; ``admits`` tells later whether it still would be.
        """
        key = request.header(b"Sec-WebSocket-Key") or ""
        offered = _tokens(request, b"Sec-WebSocket-Protocol")
        named = next((name for name in offered if name in self._speakers), None)
        if (
            request.clientproto != b"HTTP/1.1"
            or "websocket" not in _lower(_tokens(request, b"Upgrade"))
            or "upgrade" not in _lower(_tokens(request, b"Connection"))
            or request.header(b"Sec-WebSocket-Version") != _VERSION
        ):
            request.answer(426, _NOT_UPGRADED, _UPGRADE)
        elif not _is_key(key) or request.content.getvalue():
            text = "The upgrade needs one Sec-WebSocket-Key of 16 bytes in base64, and no body."
            request.answer(400, error_body(RequestError.code, text))
        elif not _is_own_origin(request):
            request.answer(403, _OTHER_ORIGIN)
        elif named is None:
            spoken = ", ".join(sorted(self._speakers))
            text = f"Name in Sec-WebSocket-Protocol what you speak; here are: {spoken}."
            request.answer(400, error_body(RequestError.code, text))
        else:
            caller = request.caller
            socket = WebSocket(self._clock, caller, self._limits, admits)
            caller.upgrade(_accepted(key, named), socket)
            socket.begin(self._speakers[named])


def _accepted(key: str, subprotocol: str) -> bytes:
    lines = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + generate_accept_token(key.encode("ascii")),
        b"Sec-WebSocket-Protocol: " + subprotocol.encode("ascii"),
        b"\r\n",
    )
    return b"\r\n".join(lines)


def _is_own_origin(request: ControllerRequest) -> bool:
    """Whether the request is of a program, or of a page that this very server gave."""
    if not request.requestHeaders.hasHeader(b"Origin"):
        return True
    origin, host = request.header(b"Origin") or "", request.header(b"Host") or ""
    return origin.lower() == f"https://{host}".lower()


def _is_key(key: str) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == _KEY_SIZE
    except ValueError:
        return False


def _tokens(request: ControllerRequest, name: bytes) -> list[str]:
    """What the lists in all headers of a name hold, in their order."""
    values = request.requestHeaders.getRawHeaders(name) or []
    return [token.strip() for value in values for token in value.decode("latin-1").split(",")]


def _lower(tokens: list[str]) -> list[str]:
    return [token.lower() for token in tokens]
