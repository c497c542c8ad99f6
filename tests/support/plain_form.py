# SPDX-License-Identifier: MIT
"""A described form as the master receives it: through MessagePack."""

from __future__ import annotations

import msgspec

from pydra.model.package import Form


def as_form(told: dict[str, object]) -> Form:
    """The form, decoded as strictly as the master does."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Form)
