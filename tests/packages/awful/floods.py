# SPDX-License-Identifier: MIT
import os
import sys

for _ in range(2_000):
    print("x" * 50_000)
    os.write(2, b"y" * 50_000)
sys.stdout.flush()
raise RuntimeError("It has written 200 MB.")
