# SPDX-License-Identifier: MIT
"""Where a dialler stands: it dials, is linked, or rests before it dials again, until it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder


class DialInputs(Protocol):
    """What happens to a dialler."""

    def start(self) -> None:
        """It may dial."""

    def linked(self) -> None:
        """Both connections are up."""

    def lost(self, reason: str) -> None:
        """The attempt failed, or the link is down."""

    def rested(self) -> None:
        """The back-off is over."""

    def stop(self) -> None:
        """It must not dial any more, and must drop what it has."""


@attrs.frozen
class DialActions:
    """What a dialler does then."""

    dial: Callable[[], None]
    """Open both connections."""
    note_link: Callable[[], None]
    """The link is up."""
    rest: Callable[[str], None]
    """Wait for the back-off, for a reason."""
    stop_resting: Callable[[], None]
    """Do not wait any longer."""
    hang_up: Callable[[], None]
    """Close what is open or being opened."""


def _dial(_: DialInputs, actions: DialActions) -> None:
    actions.dial()


def _note_link(_: DialInputs, actions: DialActions) -> None:
    actions.note_link()


def _rest(_: DialInputs, actions: DialActions, reason: str) -> None:
    actions.rest(reason)


def _stop_resting(_: DialInputs, actions: DialActions) -> None:
    actions.stop_resting()


def _hang_up(_: DialInputs, actions: DialActions) -> None:
    actions.hang_up()


_builder = TypeMachineBuilder(DialInputs, DialActions)

_idle = _builder.state("idle")
_dialling = _builder.state("dialling")
_linked = _builder.state("linked")
_resting = _builder.state("resting")
_stopped = _builder.state("stopped")

_idle.upon(DialInputs.start).to(_dialling)(_dial)
_idle.upon(DialInputs.stop).to(_stopped).returns(None)

_dialling.upon(DialInputs.linked).to(_linked)(_note_link)
_dialling.upon(DialInputs.lost).to(_resting)(_rest)
_dialling.upon(DialInputs.stop).to(_stopped)(_hang_up)

_linked.upon(DialInputs.lost).to(_resting)(_rest)
_linked.upon(DialInputs.stop).to(_stopped)(_hang_up)

_resting.upon(DialInputs.rested).to(_dialling)(_dial)
_resting.upon(DialInputs.stop).to(_stopped)(_stop_resting)

_stopped.upon(DialInputs.lost).to(_stopped).returns(None)
_stopped.upon(DialInputs.linked).to(_stopped).returns(None)
_stopped.upon(DialInputs.stop).to(_stopped).returns(None)

dial_machine = _builder.build()
"""Makes a machine for the actions of one dialler."""
