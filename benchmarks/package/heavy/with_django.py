# SPDX-License-Identifier: MIT
"""A task whose module imports what a program that uses Django imports."""

from __future__ import annotations

from django import forms
from django.core import validators
from django.db import models
from django.template import engine

from pydra.cluster.tasks import Task

LOADED = (forms, validators, models, engine)


class WithDjango(Task):
    """Returns how much it has imported."""

    def work(self) -> int:
        """Does nothing with it."""
        return len(LOADED)
