# SPDX-License-Identifier: MIT
"""
Workers forked from a pristine interpreter, instead of started by bubblewrap one by one.

``kernel`` has the system calls; ``room`` builds, once, the mount namespace that the *zygote* lives in;
``main`` is the zygote: an interpreter with the worker's runtime loaded that never sees user code; ``birth``
makes one of its children a worker in namespaces of its own; ``probe`` looks around in one; ``zygote`` is the
launcher's end. What a sandbox looks like is decided by ``policy``, here as for bubblewrap.
"""
