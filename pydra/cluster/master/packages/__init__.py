# SPDX-License-Identifier: MIT
"""Packages of tasks: found, described, unpacked, and removed when nothing needs them."""
