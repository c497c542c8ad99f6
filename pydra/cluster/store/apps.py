# SPDX-License-Identifier: MIT
"""The store as a Django app."""

from __future__ import annotations

from django.apps import AppConfig


class StoreConfig(AppConfig):
    """The app ``pydra_store``."""

    name = "pydra.cluster.store"
    label = "pydra_store"
    verbose_name = "Pydra's store"
    default_auto_field = "django.db.models.BigAutoField"
