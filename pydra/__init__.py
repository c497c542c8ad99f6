# SPDX-License-Identifier: MIT
"""Pydra: a cluster of sandboxed Python tasks."""

__version__ = "0.1.0"
