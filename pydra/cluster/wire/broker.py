# SPDX-License-Identifier: MIT
"""
Perspective Broker, guarded.

Each side offers one object with one method, ``batch``, which takes one byte string and answers one: empty if
the batch was accepted, else the code and text of a refusal. Everything else that PB can say is refused
before its parser sees it: ``BananaGuard`` reads the tokens as they arrive and bounds depth, size and number,
and the broker lets pass only a version, a call of ``batch`` and an answer. Whatever goes wrong closes this
one connection, with one line in the log.

Calls and answers that are whole, which nearly all are, go past both parsers: see ``calls``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.jelly import SecurityOptions

from pydra.cluster.wire.calls import Said, answer, call, whole_message
from pydra.cluster.wire.pace import Pace
from pydra.errors import WireError

DEPTH_LIMIT = 32
MESSAGE_LIMIT = 512 * 1024
"""Bytes of one message."""
ANSWER_S = 0.002
"""Seconds that the answer to a batch waits for a batch that goes the same way."""
TOKEN_LIMIT = 256
"""Tokens of one message; a batch has about fifteen."""
CALLS_PER_S = 2_000

_PREFIX_LIMIT = 10
_LIST, _INT, _STRING, _NEG, _LONGINT, _VOCAB = 0x80, 0x81, 0x82, 0x83, 0x85, 0x87
_SCALARS = frozenset((_INT, _NEG, _LONGINT, _VOCAB))
_ROOT = b"root"
_METHOD = b"batch"
_ALLOWED_TYPES = frozenset((b"tuple", b"dictionary", b"builtins.bytes", b"builtins.tuple", b"builtins.dict"))


class BananaGuard:
    """Follows a Banana stream without building anything of it; what it passes is bounded."""

    def __init__(self) -> None:
        self._open: list[int] = []  # how many items each open list still lacks
        self._skip = 0
        self._prefix = bytearray()
        self._size = 0
        self._tokens = 0

    @property
    def is_between(self) -> bool:
        """All that came was whole."""
        return not (self._open or self._prefix or self._skip)

    def feed(self, data: bytes) -> None:
        """`WireError` if the next bytes break a limit or are no Banana."""
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                self._grow(step)
                at += step
                if not self._skip:
                    self._item()
                continue
            byte = data[at]
            at += 1
            self._grow(1)
            if byte < 0x80:
                self._prefix.append(byte)
                if len(self._prefix) > _PREFIX_LIMIT:
                    raise WireError("A number in a message is too long.")
            else:
                self._token(byte)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MESSAGE_LIMIT:
            raise WireError(f"A message is larger than {MESSAGE_LIMIT} bytes.")

    def _token(self, kind: int) -> None:
        number = 0
        for place, digit in enumerate(self._prefix):
            number |= digit << (7 * place)
        self._prefix.clear()
        self._tokens += 1
        if self._tokens > TOKEN_LIMIT:
            raise WireError(f"A message has more than {TOKEN_LIMIT} parts.")
        if kind in _SCALARS:
            self._item()
        elif kind == _STRING:
            if self._size + number > MESSAGE_LIMIT:
                raise WireError(f"A string of {number} bytes was announced.")
            self._skip = number
            if not number:
                self._item()
        elif kind == _LIST:
            if number > TOKEN_LIMIT:
                raise WireError(f"A list of {number} items was announced.")
            self._open.append(number)
            if len(self._open) > DEPTH_LIMIT:
                raise WireError(f"A message is nested deeper than {DEPTH_LIMIT} levels.")
            if not number:
                self._close()
        else:
            raise WireError(f"A message has a part of kind {kind}.")

    def _item(self) -> None:
        """One item is complete, and with it perhaps the lists around it."""
        if self._open:
            self._open[-1] -= 1
            if not self._open[-1]:
                self._close()
        else:
            self._size = self._tokens = 0

    def _close(self) -> None:
        while self._open and not self._open[-1]:
            self._open.pop()
            if self._open:
                self._open[-1] -= 1
        if not self._open:
            self._size = self._tokens = 0


class BatchesOnly(SecurityOptions):
    """Jelly may carry what a call of ``batch`` consists of, and nothing else."""

    def isTypeAllowed(self, typeName: bytes | str) -> bool:  # noqa: N802, N803 - Twisted's
        """True for bytes and for the tuple and dict that PB wraps arguments in."""
        return (typeName.encode() if isinstance(typeName, str) else typeName) in _ALLOWED_TYPES

    def isModuleAllowed(self, moduleName: bytes | str) -> bool:  # noqa: N802, N803 - Twisted's
        """Never true."""
        return False

    def isClassAllowed(self, klass: type) -> bool:  # noqa: N802 - Twisted's
        """Never true."""
        return False


class BatchReceiver(pb.Root):
    """The one object that a peer can call."""

    def __init__(self, receive: Callable[[bytes], bytes]) -> None:
        self._receive = receive

    def remote_batch(self, batch: bytes) -> bytes:
        """Take a batch; the answer is empty, or says why it was refused."""
        return self._receive(batch)


class GuardedBroker(pb.Broker):
    """
    One end of a control connection.

    ``receive`` takes each batch and gives its answer; it must not raise. An empty answer goes with the next
    batch, with the answer after it, or after a moment: alone it would cost both sides as much as a batch.
    ``ready`` is called when batches can be sent; ``lost`` once, with the reason, when the connection is gone.
    """

    log = Logger()
    knownDialects = [b"pb"]  # noqa: RUF012, N815 - Twisted's
    transport: Any  # every TCP and TLS transport can abort, but ITransport does not say so
    waitingForAnswers: Any  # noqa: N815 - Twisted's; a dictionary, by request, until the connection is lost

    def __init__(
        self,
        is_client: bool,
        clock: IReactorTime,
        receive: Callable[[bytes], bytes],
        ready: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__(is_client, BatchesOnly())
        self._ready = ready
        self._lost = lost
        self._guard = BananaGuard()
        self._calls = Pace(clock, CALLS_PER_S, CALLS_PER_S)
        self._refused: str | None = None
        self._receive = receive
        self._clock = clock
        self._answer = b""
        """One that waits."""
        self._answer_timer: IDelayedCall | None = None
        self.setNameForLocal(_ROOT, BatchReceiver(receive))
        self._remote = self.remoteForName(_ROOT)

    def send(self, batch: bytes) -> Deferred[bytes]:
        """The peer's answer to a batch; it fails when the connection is lost. There is no time limit here."""
        if self.disconnected or self.currentDialect is None:
            failed: Deferred[bytes] = self._remote.callRemote(_METHOD, batch)
            return failed
        request = self.newRequestID()
        answered: Deferred[bytes] = Deferred()
        self.waitingForAnswers[request] = answered
        self._write_answer(call(request, batch))
        return answered

    def connectionReady(self) -> None:  # noqa: N802 - Twisted's
        """The dialect is agreed."""
        self.sendCall(b"version", self.version)
        self._ready()

    def dataReceived(self, chunk: bytes) -> None:  # noqa: N802 - Twisted's
        """Bytes of the peer: checked, then parsed."""
        if self._refused is not None:
            return
        try:
            rest = self._after_whole(chunk)
            if rest:
                if self._answer:
                    self._write_answer()  # no later one may come before it
                self._guard.feed(rest)
                super().dataReceived(rest)
        except WireError as fault:
            self._refuse(str(fault))
        except Exception as fault:  # noqa: BLE001 - an edge: random bytes raise seven kinds out of Banana
            self._refuse(f"it sent what is no message ({type(fault).__name__})")

    def _after_whole(self, chunk: bytes) -> bytes:
        """Carry out the calls and answers that a chunk begins with; what is left of it."""
        at = 0
        if self._guard.is_between and self.currentDialect is not None:
            while (said := whole_message(chunk, at)) is not None:
                self._take(said)
                at = said.end
        return chunk[at:] if at else chunk

    def _take(self, said: Said) -> None:
        if said.is_call:
            self._count_call()
            told = self._receive(said.payload)
            given = answer(said.request, told)
            if told or self._answer:
                self._write_answer(given)
            else:
                self._answer = given
                self._answer_timer = self._clock.callLater(ANSWER_S, self._write_answer)
        elif self._is_awaited(said.request):
            self.waitingForAnswers.pop(said.request).callback(said.payload)
        else:
            raise WireError("A message is of no known form.")

    def _write_answer(self, data: bytes = b"") -> None:
        """Write the answer that waits, if one does, and what comes after it."""
        if self._answer:
            data, self._answer = self._answer + data, b""
            self._forget_timer()
        self.transport.write(data)

    def _forget_timer(self) -> None:
        if self._answer_timer is not None and self._answer_timer.active():
            self._answer_timer.cancel()
        self._answer_timer = None

    def _count_call(self) -> None:
        if not self._calls.take():
            raise WireError(f"More than {CALLS_PER_S} calls in a second.")

    def expressionReceived(self, sexp: object) -> None:  # noqa: N802 - Twisted's
        """A whole message; only three forms of it exist."""
        match sexp:
            case [b"version", int()]:
                pass
            case [
                b"message",
                int(),
                bytes() as name,
                bytes() as method,
                1,
                [b"tuple", bytes()],
                [b"dictionary"],
            ]:
                if name != _ROOT or method != _METHOD:
                    raise WireError(f"There is no method {method[:40]!r} of {name[:40]!r}.")
                self._count_call()
            case [b"answer", int() as request, bytes()] if self._is_awaited(request):
                pass
            case _:
                raise WireError("A message is of no known form.")
        super().expressionReceived(sexp)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        """The connection is gone."""
        super().connectionLost(reason)
        self._forget_timer()
        self._lost(self._refused or str(reason.value))

    def _is_awaited(self, request: int) -> bool:
        return request in (self.waitingForAnswers or {})

    def _refuse(self, reason: str) -> None:
        self._refused = reason
        self.log.warn("A control connection is closed: {reason}", reason=reason)
        self.transport.abortConnection()
