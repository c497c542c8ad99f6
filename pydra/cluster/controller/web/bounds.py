# SPDX-License-Identifier: MIT
"""How much a listener of the controller takes, and how long it waits."""

from __future__ import annotations

import msgspec

from pydra.cluster.controller import BODY_LIMIT
from pydra.cluster.wire.payload import SIZE_LIMIT


class Limits(msgspec.Struct, frozen=True):
    """What one listener takes; sizes in bytes."""

    body: int = BODY_LIMIT
    body_before_login: int = 16 * 1024
    """What an unknown caller may make us hold; a login needs less than 2 KiB."""
    upload: int = 64 * 1024 * 1024
    """The compressed archive of a package."""
    payload: int = SIZE_LIMIT
    """The packed arguments of a submission."""
    headers: int = 16 * 1024
    header_count: int = 100
    headers_s: float = 10.0
    """From the first byte of a request, or the connection, to the end of its headers."""
    body_s: float = 60.0
    """From the end of the headers to the end of the body."""
    upload_s: float = 600.0
    """The same of an upload."""
    idle_s: float = 60.0
    """Between two requests."""
    connections: int = 256
    connections_per_address: int = 32
    linger_s: float = 2.0
    """After a refusal, what still comes is read and dropped, so that the caller gets to read the refusal."""
    linger: int = 8 * 1024 * 1024
    fragments: int = 1024
    """Frames of one message of a WebSocket; its bytes are limited like a body."""
    first_message_s: float = 10.0
    """From the upgrade to the first message."""
    ping_s: float = 20.0
    unsent: int = 4 * 1024 * 1024
    """Bytes that a WebSocket holds for a peer that does not read."""
