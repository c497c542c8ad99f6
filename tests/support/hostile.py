# SPDX-License-Identifier: MIT
"""
A hostile task: everything that it tries, and what came of each try, as one ``result`` for the test worker.

It is run inside a sandbox, with the places of the host that it should not find filled in. A try answers what
it got: a number or a text that it should not have, or ``errno.NAME``, or how the process that tried it ended.
"""

from __future__ import annotations

import json

PROGRAM = r"""
import ctypes, errno, json, mmap, os, resource, signal, socket, struct, subprocess, sys

told = json.loads(TOLD)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
MACHINE = os.uname().machine
NUMBERS = {
    "x86_64": {"ptrace": 101, "add_key": 248, "keyctl": 250, "io_uring_setup": 425, "userfaultfd": 323,
               "clone3": 435, "bpf": 321, "perf_event_open": 298, "process_vm_readv": 310, "setns": 308,
               "mount": 165, "open_by_handle_at": 304, "clock_settime": 227, "init_module": 175,
               "pidfd_getfd": 438, "kexec_load": 246, "swapon": 167, "quotactl": 179},
    "aarch64": {"ptrace": 117, "add_key": 217, "keyctl": 219, "io_uring_setup": 425, "userfaultfd": 282,
                "clone3": 435, "bpf": 280, "perf_event_open": 241, "process_vm_readv": 270, "setns": 268,
                "mount": 40, "open_by_handle_at": 265, "clock_settime": 112, "init_module": 105,
                "pidfd_getfd": 438, "kexec_load": 104, "swapon": 224, "quotactl": 60},
}[MACHINE]

def tried(action):
    try:
        return action()
    except OSError as fault:
        return errno.errorcode.get(fault.errno, str(fault))
    except Exception as fault:
        return type(fault).__name__

def call(name, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(NUMBERS[name], *arguments)
    return errno.errorcode[ctypes.get_errno()] if answer < 0 else answer

def in_child(action):
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def read(path):
    with open(path, "rb") as opened:
        return opened.read().decode(errors="replace")[:200]

def write(path):
    with open(path, "w") as opened:
        opened.write("x")
    return "written"

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as opened:
        opened.settimeout(2)
        opened.connect(address)
        return "connected"

def make_socket(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return "made"

def descriptors():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return len(held)
    finally:
        for number in held:
            os.close(number)

def foreign_call():
    if MACHINE != "x86_64":
        os.kill(os.getpid(), signal.SIGSYS)
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    ctypes.CFUNCTYPE(ctypes.c_long)(address)()

def x32_call():
    if MACHINE != "x86_64":
        os.kill(os.getpid(), signal.SIGSYS)
    libc.syscall(0x40000000 + 39)

def environments():
    found = b""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found += read_bytes(f"/proc/{name}/environ")
    return told["secret"].encode() in found or told["secret"] in os.environ.values()

def read_bytes(path):
    try:
        with open(path, "rb") as opened:
            return opened.read()
    except OSError:
        return b""

def run_set_uid():
    said = subprocess.run([told["set_uid"], "-u"], capture_output=True, text=True)
    return said.stdout.strip()

def own_set_uid():
    with open("tool", "w") as opened:
        opened.write("#!/bin/sh\n")
    os.chmod("tool", 0o6755)
    return oct(os.stat("tool").st_mode & 0o7777)

def mount_points():
    with open("/proc/self/mountinfo") as opened:
        lines = opened.read()
    return {
        "points": sorted({line.split()[4] for line in lines.splitlines()}),
        "secret": told["secret"] in lines,
    }

def every_neighbour():
    os.kill(-1, signal.SIGCONT)
    return "sent"

AF_ALG, AF_VSOCK, AF_PACKET = 38, 40, 17
RAW = socket.SOCK_RAW
found = {
    1: tried(lambda: read("/etc/shadow")),
    2: tried(lambda: read(told["key"])),
    3: [tried(lambda: os.listdir(told["scratch"])), tried(lambda: os.listdir("/scratch")),
        sorted(os.listdir("/task"))],
    4: [call("ptrace", 16, told["daemon"], 0, 0), call("process_vm_readv", told["daemon"], 0, 0, 0, 0, 0),
        call("pidfd_getfd", 0, 0, 0)],
    5: [tried(lambda: read(f"/proc/{told['daemon']}/environ")),
        tried(lambda: read(f"/proc/{told['daemon']}/mem")),
        sum(name.isdigit() for name in os.listdir("/proc"))],
    6: [tried(lambda: os.kill(told["daemon"], 9)), in_child(every_neighbour)],
    7: environments(),
    8: [n for n in range(1024) if tried(lambda: os.fstat(n)) != "EBADF"],
    9: [tried(lambda: connect(socket.AF_INET, ("127.0.0.1", told["port"]))),
        tried(lambda: connect(socket.AF_INET, ("192.0.2.1", 9))),
        tried(lambda: connect(socket.AF_UNIX, "\0" + told["abstract"]))],
    10: [tried(lambda: make_socket(socket.AF_NETLINK, RAW)), tried(lambda: make_socket(AF_VSOCK, 1)),
         tried(lambda: make_socket(AF_PACKET, RAW)), tried(lambda: make_socket(AF_ALG, 5)),
         tried(lambda: make_socket(socket.AF_INET, RAW, 1)),
         tried(lambda: make_socket(socket.AF_INET6, RAW, 58))],
    11: tried(run_set_uid),
    12: [libc.unshare(0x10000000), libc.unshare(0x40000000), libc.unshare(0x20000), call("clone3", 0, 0),
         call("setns", 0, 0), call("mount", 0, 0, 0, 0, 0)],
    13: [call("add_key", 0, 0, 0, 0, 0), call("keyctl", 0, 0, 0, 0, 0), call("io_uring_setup", 1, 0),
         call("userfaultfd", 0), call("bpf", 0, 0, 0), call("perf_event_open", 0, 0, 0, 0, 0),
         call("open_by_handle_at", 0, 0, 0), call("clock_settime", 0, 0), call("init_module", 0, 0, 0),
         call("kexec_load", 0, 0, 0, 0), call("swapon", 0, 0), call("quotactl", 0, 0, 0, 0)],
    14: [in_child(x32_call), in_child(foreign_call)],
    18: descriptors(),
    22: [tried(lambda: write(path + "/planted")) for path in ("/", "/usr", "/etc", "/opt", "/usr/bin")]
        + [tried(lambda: write("/proc/sys/kernel/core_pattern")), tried(lambda: os.listdir("/sys")),
           tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -20)),
           tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))),
           tried(lambda: os.mknod("device", 0o600 | 0x6000, os.makedev(8, 0))),
           tried(lambda: os.setuid(0)), tried(lambda: os.chroot("/tmp"))],
    23: [tried(lambda: write("/dev/planted")), tried(lambda: os.mkdir("/dev/planted"))],
    24: tried(own_set_uid),
    25: mount_points(),
}
result = json.dumps(found)
"""


def program(**told: object) -> str:
    """The statements, told what is on the host: daemon, key, scratch, port, abstract, secret, set_uid."""
    return f"TOLD = {json.dumps(told)!r}\n{PROGRAM}"
