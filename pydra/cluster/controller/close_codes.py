# SPDX-License-Identifier: MIT
"""Why a WebSocket is closed, in the numbers of RFC 6455, section 7.4."""

from __future__ import annotations

from typing import Final

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
