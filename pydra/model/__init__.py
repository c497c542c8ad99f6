# SPDX-License-Identifier: MIT
"""
Values: frozen records that are passed about, and nothing that acts.

``ids`` names things, ``status`` says where an instance stands (and loads next to nothing, so that a worker
may use it), ``instance``, ``node`` and ``package`` describe the three populations, ``changes`` says what may
be committed to the store.
"""
