# SPDX-License-Identifier: MIT
"""
What runs inside the sandbox: small, few imports, no reactor.

``main`` says READY and takes what it is sent; ``channel`` carries frames, which ``reading`` reads; ``loader``
is the one file that imports user code; ``runner`` runs a task, in its ``surroundings``, with ``reporter`` for
its progress, ``output`` for what it writes and ``asking`` for the units that it asks for. ``serving`` runs
the units of a hired worker, with ``branches`` for their tasks and ``results`` for what comes of them.
``describe`` tells what is in a package, as ``description`` reads it, ``forms`` what a form declares, and
``validate`` puts arguments through it. ``unpack`` unpacks an uploaded package.
"""
