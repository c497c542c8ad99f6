# SPDX-License-Identifier: MIT
"""Numbers of system calls, for the architectures that a filter can be built for."""

from __future__ import annotations

from typing import NamedTuple


class Architecture(NamedTuple):
    """What the kernel calls an architecture, and where its numbers stand in ``NUMBERS``."""

    audit: int
    """The number that the kernel tells a filter."""
    column: int
    foreign_bit: int
    """Numbers from here on belong to a second set of calls (x32); 0 if there is none."""


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 0, 0x40000000),
    "aarch64": Architecture(0xC00000B7, 1, 0),
}
"""By what ``os.uname`` calls the machine."""

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # Names for the calls whose arguments are looked at.
    "clone": (56, 220),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "unshare": (272, 97),
    # Answered as if the kernel had none, so that libraries use the older call.
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Mounts and roots.
    "chroot": (161, 51),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "listmount": (458, 458),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "statmount": (457, 457),
    "umount2": (166, 39),
    # Other processes, and their memory.
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    # Parts of the kernel with a large surface.
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "request_key": (249, 218),
    "syslog": (103, 116),
    "userfaultfd": (323, 282),
    # The machine.
    "acct": (163, 89),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "modify_ldt": (154, None),
    "nfsservctl": (180, 42),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "uselib": (134, None),
    "vhangup": (153, 58),
}
"""On x86_64 and aarch64; None where the architecture has no such call."""

LOOKED_AT = ("clone", "ioctl", "socket", "socketpair", "unshare")
"""Calls that are allowed or denied by their arguments."""

UNKNOWN = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
"""Calls that answer ENOSYS: what they do cannot be seen from their arguments."""

DENIED = tuple(name for name in NUMBERS if name not in LOOKED_AT and name not in UNKNOWN)
"""Calls that answer EPERM."""
