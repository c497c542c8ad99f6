# SPDX-License-Identifier: MIT
"""Django's settings for the checks that need some without a daemon: the mypy plugin and makemigrations."""

from __future__ import annotations

INSTALLED_APPS = ["pydra.cluster.store.apps.StoreConfig"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
