# SPDX-License-Identifier: MIT
import os
import signal

os.kill(-1, signal.SIGKILL)
