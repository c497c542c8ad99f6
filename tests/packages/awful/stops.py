# SPDX-License-Identifier: MIT
import os
import signal

os.kill(os.getppid(), signal.SIGSTOP)
