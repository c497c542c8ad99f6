# SPDX-License-Identifier: MIT
"""A file that calls exit."""

import sys

sys.exit("leaving")
