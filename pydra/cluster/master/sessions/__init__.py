# SPDX-License-Identifier: MIT
"""Sessions: instances whose units come from a client."""
