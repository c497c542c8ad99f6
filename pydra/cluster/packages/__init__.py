# SPDX-License-Identifier: MIT
"""
Packages of tasks, as files; nothing here imports their code.

``content`` reads a directory and names its version, ``repository`` keeps versions, ``archive`` carries
one to another machine, ``manifest`` reads META, ``scan`` finds candidates, and ``validation`` checks
arguments by the description of a form. All of it blocks, and is called in threads.
"""
