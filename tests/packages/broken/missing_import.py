# SPDX-License-Identifier: MIT
"""A file whose import fails."""

import no_such_module_anywhere  # noqa: F401
