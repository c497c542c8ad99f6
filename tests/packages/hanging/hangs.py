# SPDX-License-Identifier: MIT
"""A file that never ends."""

import signal

while True:
    signal.pause()
