# SPDX-License-Identifier: MIT
"""The lines that tasks wrote: taken, archived, kept and removed."""
