# SPDX-License-Identifier: MIT
"""Found through ``lib``."""

HELP = "from lib"
