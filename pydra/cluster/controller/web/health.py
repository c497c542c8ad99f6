# SPDX-License-Identifier: MIT
"""The pages that anyone may read: they tell that the API answers, and which Pydra it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pydra import __version__

PAGES: Final[Mapping[bytes, bytes]] = {
    b"/healthz": msgspec.json.encode({"status": "ok"}),
    b"/version": msgspec.json.encode({"name": "pydra", "version": __version__}),
}
"""Path to JSON; that this process can answer at all is what ``/healthz`` says."""
