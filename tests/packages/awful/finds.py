# SPDX-License-Identifier: MIT
# Writes to every descriptor that it has, as if it were the one who describes.
import os

for descriptor in range(3, 64):
    try:
        os.write(descriptor, b"\x00\x00\x00\x05\x94\x17\xa4fake")
    except OSError:
        pass
