# SPDX-License-Identifier: MIT
"""Work units in the master: what nodes and main workers ask and tell of them."""
