# SPDX-License-Identifier: MIT
"""One HTTPS connection of a client to the master, kept and used again."""

from __future__ import annotations

import select
import socket
import ssl
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Final, NamedTuple

CONNECT_TIMEOUT_S: Final = 10.0
"""For the connection, and again for its handshake."""

ANSWER_TIMEOUT_S: Final = 60.0
"""Between two bytes of an answer; the longest call waits for 25 seconds."""


_JOINED: Final = 64 * 1024
"""Bytes of a body that is sent together with the head; a copy of a larger one costs more than it saves."""


_HEAD: Final = 5
"""Bytes of a body that are read apart, as many as stand before long bytes: see `unpack_apart`."""


class Answer(NamedTuple):
    """A whole answer, whose body is in two pieces."""

    status: int
    head: bytes
    rest: bytes

    @property
    def body(self) -> bytes:
        """All of it."""
        return self.head + self.rest


class DisconnectedError(Exception):
    """
    The call was not answered.

    ``nothing_came`` is true if the other side closed the connection before the first byte of an answer.
    """

    def __init__(self, text: str, *, nothing_came: bool = False) -> None:
        super().__init__(text)
        self.nothing_came = nothing_came


class NotHTTPError(Exception):
    """What came is no HTTP."""


class Connection:
    """
    A connection with the server whose certificate (DER) is exactly ``certificate``; any if that is None.

    `DisconnectedError` if it cannot be made.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, certificate: bytes | None) -> None:
        self._where = f"{host}:{port}"
        self._host = f"[{host}]:{port}" if ":" in host else self._where
        self.is_open = False
        try:
            plain = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        except (OSError, UnicodeError) as fault:
            raise DisconnectedError(
                f"The master cannot be reached at {self._where} ({_words(fault)}); see that it runs, and "
                "that HOST and CONTROLLER_PORT are right."
            ) from None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=host)
        except (OSError, ValueError) as fault:  # SSLError is an OSError
            plain.close()
            raise DisconnectedError(
                f"What answers at {self._where} is not the master of this key ({_words(fault)}); see that "
                "the key is a current copy of its master.key."
            ) from None
        self.certificate = self._socket.getpeercert(binary_form=True) or b""
        """The server's, DER, as it was seen in this handshake."""
        if certificate is not None and self.certificate != certificate:
            self._socket.close()
            raise DisconnectedError(
                f"What answers at {self._where} is not the master of this key: its certificate is another."
            )
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self.is_open = True

    def is_usable(self) -> bool:
        """False if the other side closed the connection, or spoke unasked, since it was last used."""
        if not self.is_open:
            return False
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(0):
            return True
        # Something is there: a new session ticket, which is no matter, or the end.
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            self._socket.settimeout(ANSWER_TIMEOUT_S)
            return True
        except OSError:
            return False
        return False

    def exchange(
        self, verb: str, path: str, headers: str, *body: bytes, kind: str = "application/json"
    ) -> Answer:
        """
        Send a request and read its whole answer; the pieces of the body follow one another.

        `DisconnectedError`; `NotHTTPError`.
        """
        size = sum(map(len, body))
        head = (
            f"{verb} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {size}\r\n"
            f"Content-Type: {kind}\r\n{headers}\r\n"
        )
        self.is_open = False
        try:
            # One write, so one segment: http.client's own request would be two.
            if size <= _JOINED:
                self._socket.sendall(b"".join((head.encode("ascii"), *body)))
            else:
                for piece in (head.encode("ascii"), *body):
                    self._socket.sendall(piece)
        except OSError as fault:
            # A refusal may have been sent before all of the body was: then it is there to be read.
            if isinstance(fault, TimeoutError):
                raise DisconnectedError(f"The master at {self._where} takes no more data.") from None
        response = HTTPResponse(self._socket, method=verb)
        began = False
        try:
            response.begin()
            began = True
            has_body = bool(response.length)
            begun = response.read(_HEAD)
            if has_body and not begun:
                raise IncompleteRead(b"")
            answer = Answer(response.status, begun, response.read())
            self.is_open = not response.will_close
        except (RemoteDisconnected, IncompleteRead, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            text = f"The master at {self._where} closed the connection."
            raise DisconnectedError(text, nothing_came=not began) from None
        except HTTPException:
            raise NotHTTPError(f"What answers at {self._where} speaks no HTTP.") from None
        except OSError as fault:
            raise DisconnectedError(
                f"The master at {self._where} did not answer ({_words(fault)})."
            ) from None
        finally:
            response.close()
        return answer

    def close(self) -> None:
        """The connection is closed; closing it again does nothing."""
        self.is_open = False
        self._socket.close()


def _words(fault: Exception) -> str:
    if isinstance(fault, ssl.SSLError):
        return str(getattr(fault, "verify_message", "") or fault.reason or "the TLS handshake failed")
    return str(getattr(fault, "strerror", None) or fault) or type(fault).__name__
