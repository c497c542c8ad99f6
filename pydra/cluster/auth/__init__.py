# SPDX-License-Identifier: MIT
"""
Who is who.

``identity`` is the key of a daemon and its fingerprint; ``tls`` makes encrypted connections out of it, on
which only the pinned peer gets a word in. ``administrator`` is the key of the person who runs the cluster:
the file ``master.key``. A controller proves that it holds that key by ``challenge`` and then shows one of
the ``tokens``.
"""
