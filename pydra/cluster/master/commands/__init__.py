# SPDX-License-Identifier: MIT
"""
What a controller may ask for, one file a noun.

Each public method is a function of the controller API (see the table in
``pydra.cluster.controller.functions``): it takes the keyword arguments of the table, checked, and answers
JSON. ``objects`` makes the shapes.
"""
