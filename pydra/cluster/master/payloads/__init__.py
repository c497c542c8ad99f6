# SPDX-License-Identifier: MIT
"""Arguments and results that are too large to travel inline: files named by their SHA-256."""
