# SPDX-License-Identifier: MIT
"""
Measurements of Pydra, as medians and as ratios to a process pool in the same run; nothing here is a test.
"""
