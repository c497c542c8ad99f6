# SPDX-License-Identifier: MIT
"""Django's settings of a daemon, made in code: the store is all of Django that a master runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
from django.conf import settings


def django_settings(database: Path) -> dict[str, Any]:
    """Django's settings, by Django's names (hence Any), for a store in this file."""
    return {
        "INSTALLED_APPS": ["pydra.cluster.store.apps.StoreConfig"],
        "DATABASES": {"default": database_settings(database)},
        "USE_TZ": True,
        "TIME_ZONE": "UTC",
        # Logging belongs to pydra.logs.
        "LOGGING_CONFIG": None,
    }


def database_settings(database: Path) -> dict[str, Any]:
    """
    One entry of DATABASES; the time-out, in seconds, is for somebody else's lock: a backup, or a person.
    """
    return {
        "ENGINE": "django.db.backends.sqlite3",
        # A Path: Django reads a text with certain words in it as a database in memory.
        "NAME": database,
        "OPTIONS": {"timeout": 30},
    }


def configure(database: Path) -> None:
    """
    Django is set up, with the store in this file as its default database.

    Only the first call of a process does anything: Django can be configured once. A store does not depend
    on that path, because its threads make connections of their own.
    """
    if not settings.configured:
        settings.configure(**django_settings(database))
        django.setup()
