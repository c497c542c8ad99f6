# SPDX-License-Identifier: MIT
"""What the values of settings may be, as types; the description of each is what a fault tells as allowed."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from pydra.model.options import MOST_LABELS, MOST_RESOURCES, Amount, Label, ResourceName

Address = Annotated[str, Meta(pattern=r"\A[^\s/]{1,253}\Z", description="a host name or an IP address")]
AnyPort = Annotated[int, Meta(ge=0, le=65535, description="a port, 0 to 65535 (0: chosen by the system)")]
Bytes = Annotated[int, Meta(ge=4096, le=1 << 40, description="bytes, 4096 to 1099511627776")]
Count = Annotated[int, Meta(ge=0, le=4096, description="a number from 0 to 4096")]
Limit = Annotated[int, Meta(ge=1, le=1000, description="a number from 1 to 1000")]
Cores = Annotated[float, Meta(ge=0, le=4096, description="cores, 0 to 4096 (0: no limit of its own)")]
Files = Annotated[int, Meta(ge=100, le=10_000_000, description="files, 100 to 10000000")]
OptionalMegabytes = Annotated[
    int, Meta(ge=0, le=1 << 24, description="megabytes, 0 to 16777216 (0: what the machine has)")
]
PrimedMegabytes = Annotated[int, Meta(ge=0, le=1 << 24, description="megabytes, 0 to 16777216 (0: none)")]
Processes = Annotated[int, Meta(ge=4, le=4096, description="a number of processes, 4 to 4096")]
GroupPath = Annotated[
    str,
    Meta(
        pattern=r"\A([A-Za-z0-9_@:][A-Za-z0-9_@:.-]*(/[A-Za-z0-9_@:][A-Za-z0-9_@:.-]*)*)?\Z",
        description="a path of control groups without a leading /, or empty",
    ),
]
MountName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")]
Days = Annotated[int, Meta(ge=1, le=36500, description="days, 1 to 36500")]
Megabytes = Annotated[int, Meta(ge=64, le=1 << 24, description="megabytes, 64 to 16777216")]
ResultMegabytes = Annotated[int, Meta(ge=8, le=1024, description="megabytes, 8 to 1024")]
Seconds = Annotated[float, Meta(ge=0.05, le=604800, description="seconds, 0.05 to 604800")]
Uid = Annotated[int, Meta(ge=1, le=4294967293, description="a user id other than root's, 1 to 4294967293")]
Fingerprint = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z2-7-]{0,128}\Z", description="a fingerprint as a daemon prints it, or empty"),
]
Directory = Annotated[str, Meta(pattern=r"\A[^~\x00][^\x00]*\Z", description="a path, not starting with ~")]
OptionalPath = Annotated[
    str, Meta(pattern=r"\A([^~\x00][^\x00]*)?\Z", description="a path, not starting with ~, or empty")
]
Index = Annotated[
    str, Meta(pattern=r"\A(https?://[!-~]{1,500})?\Z", description="an address with http or https, or empty")
]
Switch = Annotated[bool, Meta(description="True or False")]
Level = Annotated[
    Literal["debug", "info", "warn", "error", "critical"],
    Meta(description="'debug', 'info', 'warn', 'error' or 'critical'"),
]
Placement = Annotated[
    Literal["leastload", "lru", "plainrandom", "twobin", "weighted"],
    Meta(description="'leastload', 'lru', 'plainrandom', 'twobin' or 'weighted'"),
]
Isolation = Annotated[Literal["sandbox", "none"], Meta(description="'sandbox' or 'none'")]


class NodeAddress(NamedTuple):
    """A node that the master connects to."""

    host: Address
    port: Annotated[int, Meta(ge=1, le=65535)]
    fingerprint: Annotated[str, Meta(pattern=r"\A[A-Za-z2-7-]{16,128}\Z")]


Labels = Annotated[
    tuple[Label, ...],
    Meta(
        max_length=MOST_LABELS,
        description=f"a list of at most {MOST_LABELS} words of letters, digits and _.:=-, each of at most 64",
    ),
]
Resources = Annotated[
    dict[ResourceName, Amount],
    Meta(
        max_length=MOST_RESOURCES,
        description=f"a dict of at most {MOST_RESOURCES} names (a-z, 0-9, _) to amounts, 0 to 1000000000",
    ),
]
Mounts = Annotated[
    dict[MountName, Directory],
    Meta(description="a dict of names to directories, not starting with ~"),
]
NodeAddresses = Annotated[
    tuple[NodeAddress, ...], Meta(description="a list of (host, port, fingerprint), each address once")
]
UidRange = Annotated[
    tuple[Uid, Uid], Meta(description="(first, last) user id, first not above last, apart from SERVICE_UID_*")
]
