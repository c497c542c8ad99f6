# SPDX-License-Identifier: MIT
"""The listening service of the controller API: HTTPS with the master's certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from pydra.cluster.auth.identity import Identity
from pydra.cluster.auth.tls import controller_context
from pydra.cluster.controller.web.authentication import Authentication
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.calls import FunctionCalls
from pydra.cluster.controller.web.limits import ControllerFactory, LimitedTLSFactory
from pydra.cluster.controller.web.upgrade import Upgrades
from pydra.cluster.interfaces import Commands, OpenPayload, OpenResult, OpenUpload, Speakers
from pydra.errors import ConfigError

CLOSE_GRACE_S = 0.2
"""How long idle clients have to notice that their connection is being closed; most notice later."""

STOP_GRACE_S = 5.0
"""How long calls that are being carried out may take to end when the service stops."""


class ControllerService:
    """
    Answers controllers on ``interface`` (an IP address) and ``port`` (0: chosen by the system).

    ``commands`` carry out the functions; see `pydra.cluster.controller.functions` for what they are given.
    ``open_upload`` takes packages, ``open_payload`` arguments; ``open_result`` gives results; ``speakers``
    speak over WebSockets; without them there is no such path.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,  # IReactorTCP and IReactorTime; zope interfaces cannot be joined in an annotation
        wall_clock: Callable[[], float],
        identity: Identity,
        interface: str,
        port: int,
        commands: Commands,
        authentication: Authentication,
        limits: Limits | None = None,
        open_upload: OpenUpload | None = None,
        speakers: Speakers | None = None,
        open_payload: OpenPayload | None = None,
        open_result: OpenResult | None = None,
    ) -> None:
        limits = limits or Limits()
        upgrades = Upgrades(reactor, limits, speakers) if speakers else None
        self._reactor = reactor
        self._address = interface
        self._port = port
        self._interface = FunctionCalls(
            commands,
            authentication,
            limits,
            open_upload=open_upload,
            upgrades=upgrades,
            open_payload=open_payload,
            open_result=open_result,
        )
        self._factory = ControllerFactory(reactor, wall_clock, self._interface, limits)
        self._tls = LimitedTLSFactory(controller_context(identity), self._factory, reactor)
        self._listener: Any = None  # IListeningPort, which has no getHost().port in its interface

    async def start(self) -> int:
        """Listen; the port is answered. `ConfigError` if it cannot be had."""
        try:
            self._listener = self._reactor.listenTCP(
                self._port, self._tls, backlog=128, interface=self._address
            )
        except (CannotListenError, OSError) as fault:
            where = f"HOST {self._address!r}, CONTROLLER_PORT {self._port}"
            raise ConfigError(f"{where}: the controller API cannot listen there: {fault}") from None
        port = int(self._listener.getHost().port)
        self._log.info("The controller API listens on {address}:{port}", address=self._address, port=port)
        return port

    async def stop(self) -> None:
        """Listen no more, end waiting calls, let others end for up to five seconds, and close."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        stopped = listener.stopListening()
        if stopped is not None:
            await stopped
        self._factory.begin_closing()
        self._interface.stop()
        timers = [
            self._reactor.callLater(CLOSE_GRACE_S, self._factory.abort, busy=False),
            self._reactor.callLater(STOP_GRACE_S, self._factory.abort, busy=True),
        ]
        await self._factory.all_closed()
        for timer in timers:
            if timer.active():
                timer.cancel()
