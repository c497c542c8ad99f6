# SPDX-License-Identifier: MIT
import os
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(1_000)
raise RuntimeError("It has left a child.")
