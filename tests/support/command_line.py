# SPDX-License-Identifier: MIT
"""The command line, called in this process with a controller of the test's own."""

from __future__ import annotations

import os
from unittest import mock

from click.testing import CliRunner, Result

from pydra.cli.connection import Controller, Surroundings
from pydra.cli.main import cli
from pydra.client.target import Target
from tests.support.scripted_controller import ScriptedController


def call(controller: ScriptedController, *words: str, now: float = 0.0) -> Result:
    """Run a command at an instant, with the environment of nobody, and return what came of it."""

    def connect(_target: Target) -> Controller:
        return controller

    outside = Surroundings(connect=connect, environ={}, clock=lambda: now)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYDRA_")}
    with mock.patch.dict(os.environ, bare, clear=True):
        return CliRunner().invoke(cli, list(words), obj=outside)
