# SPDX-License-Identifier: MIT
"""Changes of the schema, in their order; a master applies the missing ones when it starts."""
