# SPDX-License-Identifier: MIT
"""
The cluster: one directory a noun.

``master`` and ``node`` are the daemons, ``worker`` is what runs inside a sandbox, ``sandbox`` makes one,
``controller`` is the API, ``scheduler`` decides, ``store`` remembers, ``wire`` and ``auth`` connect,
``tasks`` is what authors import, ``packages`` is task code as files.
"""
