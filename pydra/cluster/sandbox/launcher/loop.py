# SPDX-License-Identifier: MIT
"""The launcher's loop: one thing after the other, long ones (removing, filling) in small steps between."""

from __future__ import annotations

import array
import contextlib
import os
import resource
import selectors
import signal
import socket
from collections import deque
from collections.abc import Generator

from pydra.cluster.sandbox.launcher import messages, policy, spawning
from pydra.cluster.sandbox.launcher.configuration import NONE, Configuration
from pydra.cluster.sandbox.launcher.filling import FillFault, Source, fill
from pydra.cluster.sandbox.launcher.forking.start import start_zygote
from pydra.cluster.sandbox.launcher.forking.zygote import Zygote, ZygoteFault
from pydra.cluster.sandbox.launcher.host import find_systems
from pydra.cluster.sandbox.launcher.messages import Request, RequestFault
from pydra.cluster.sandbox.launcher.sandboxes import Sandbox, exit_status
from pydra.cluster.sandbox.launcher.scratch import Scratch, open_directory
from pydra.cluster.sandbox.launcher.slots import NoSlot, SlotLeases

_DESCRIPTORS_LIMIT = 4
"""Descriptors taken from one packet; a request has two."""

FAILED = 126
"""Status of a worker that never began."""

_ANSWERS_LIMIT = 1024
"""Answers waiting for the daemon above which it is not read."""

Chore = Generator[None, None, None]
"""Work in small steps."""


class Launcher:
    """Makes, fills and ends sandboxes until its daemon closes the socket; then ends all of them."""

    def __init__(self, configuration: Configuration, control: socket.socket) -> None:
        self._configuration = configuration
        self._control = control
        control.setblocking(False)
        shared = bool(configuration.slots_directory)
        self._slots = (
            SlotLeases(configuration.slots_directory, configuration.first_uid, configuration.last_uid)
            if shared
            else None
        )
        self._scratch = Scratch(configuration.scratch, configuration.visible_scratch, shared)
        self._etc = self._scratch.write_etc()
        self._source = Source(
            open_directory(configuration.cache), configuration.cache_owner, configuration.isolation != NONE
        )
        self._systems = find_systems()
        self._sandboxes: dict[int, Sandbox] = {}
        self._processes: dict[int, Sandbox] = {}
        """Sandboxes by pid of the monitor, and of the first process once its monitor is dead."""
        self._zygote: Zygote | None = None
        """What workers are forked from; None where bubblewrap makes them."""
        self._ended_early: dict[int, int] = {}
        """Statuses by pid of children that nobody knew: one may be told as born next."""
        self._chores: deque[Chore] = deque([self._scratch.remove_leftovers()])
        self._answers: deque[bytes] = deque()
        self._closed = False
        self._empty = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the daemon is gone and nothing is left."""
        _raise_descriptor_limit()
        spawning.adopt_orphans()
        wakes, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in spawning.IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(wakes, selectors.EVENT_READ)
        self._start_zygote()
        while not self._closed or self._sandboxes:
            for key, mask in self._selector.select(0 if self._chores else None):
                if key.fd == wakes:
                    os.read(wakes, 4096)
                    self._reap()
                elif isinstance(key.data, Zygote):
                    self._zygote_readable(key.data)
                elif key.data is not None:
                    self._information_readable(key.data)
                else:
                    if mask & selectors.EVENT_WRITE:
                        self._flush()
                    if mask & selectors.EVENT_READ and not self._closed:
                        self._receive()
            if self._chores:
                self._step(self._chores.popleft())
        if self._zygote is not None:
            self._zygote.end()
        self._scratch.close()
        if self._slots is not None:
            self._slots.close()

    # The daemon.

    def _receive(self) -> None:
        try:
            packet, descriptors = _receive_packet(self._control)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        try:
            if not packet and not descriptors:
                self._daemon_gone()
                return
            self._obey(messages.decode_request(packet), descriptors)
        except RequestFault as fault:
            self._answer(messages.REFUSED, 0, reason=str(fault))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _obey(self, request: Request, descriptors: list[int]) -> None:
        if request.what == messages.LAUNCH:
            if request.number in self._sandboxes:
                raise RequestFault("The id is in use.")
            if len(descriptors) != 2:
                raise RequestFault("A launch needs two descriptors.")
            self._launch(request.number, *descriptors)
            return
        sandbox = self._sandboxes.get(request.number)
        if request.what == messages.KILL:
            # One that ended by itself meanwhile is no fault; its end was told.
            if sandbox is not None and sandbox.status is None:
                sandbox.kill()
        elif sandbox is None:
            self._answer(messages.UNFILLED, request.number, reason="There is no such worker.")
        elif sandbox.status is not None:
            pass  # its end is told next
        elif sandbox.packages is None:
            self._answer(messages.UNFILLED, request.number, reason="The worker has a package already.")
        else:
            chore = self._fill(sandbox, sandbox.packages, request)
            sandbox.packages, sandbox.filling = None, chore
            self._step(chore)

    def _daemon_gone(self) -> None:
        self._closed = True
        self._answers.clear()
        self._selector.unregister(self._control)
        self._control.close()
        for sandbox in list(self._sandboxes.values()):
            if sandbox.status is None:
                sandbox.kill()

    def _answer(self, what: str, number: int, **details: str | int) -> None:
        if not self._closed:
            self._answers.append(messages.encode(what, number, **details))
            self._flush()

    def _flush(self) -> None:
        while self._answers:
            try:
                self._control.send(self._answers[0])
            except BlockingIOError:
                break
            except OSError:
                self._answers.clear()  # the daemon is gone, which reading will tell
                break
            self._answers.popleft()
        events = selectors.EVENT_WRITE if self._answers else 0
        if len(self._answers) < _ANSWERS_LIMIT:
            events |= selectors.EVENT_READ
        if events != self._selector.get_key(self._control).events:
            self._selector.modify(self._control, events)

    # Sandboxes.

    def _launch(self, number: int, channel: int, output: int) -> None:
        uid = None
        try:
            uid = self._slots.lease() if self._slots is not None else None
            packages = self._scratch.make(number, uid)
        except (NoSlot, OSError) as fault:
            if uid is not None and self._slots is not None:
                self._slots.release(uid)
            self._answer(messages.FAILED, number, reason=str(fault))
            return
        sandbox = Sandbox(number, uid, packages)
        self._sandboxes[number] = sandbox
        try:
            self._start(sandbox, channel, output)
        except OSError as fault:
            self._answer(messages.FAILED, number, reason=str(fault))
            sandbox.status = FAILED
            self._bury(sandbox, told=False)
            return
        self._answer(messages.LAUNCHED, number)

    def _start(self, sandbox: Sandbox, channel: int, output: int) -> None:
        if self._zygote is not None:
            self._zygote.bear(sandbox.number, sandbox.uid, channel, output)
            return
        files = {0: self._empty, 1: output, 2: output, policy.CHANNEL: channel}
        plan = self._plan(sandbox.number)
        if self._configuration.isolation == NONE:
            sandbox.monitor = spawning.spawn(plan, sandbox.uid, files, session=True)
            self._processes[sandbox.monitor] = sandbox
            return
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            files[policy.INFORMATION] = writing
            sandbox.monitor = spawning.spawn(plan, sandbox.uid, files, session=False)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._processes[sandbox.monitor] = sandbox
        sandbox.information = reading
        self._selector.register(reading, selectors.EVENT_READ, sandbox)

    # Forking.

    def _start_zygote(self) -> None:
        """Have workers forked from now on, if that can be had here."""
        room = policy.room(self._configuration.places, self._etc, self._systems)
        self._zygote = start_zygote(self._configuration, room, self._scratch, self._slots)
        if self._zygote is not None:
            self._selector.register(self._zygote, selectors.EVENT_READ, self._zygote)

    def _zygote_readable(self, zygote: Zygote) -> None:
        try:
            number, pid = zygote.read()
        except ZygoteFault:
            self._zygote_ended(zygote)
            return
        sandbox = self._sandboxes[number]
        sandbox.monitor = pid
        if not pid or pid in self._ended_early:
            self._ended(sandbox, pid, self._ended_early.pop(pid, FAILED))
        else:
            self._processes[pid] = sandbox
            sandbox.advance_kill()
        zygote.speak(number)
        if not zygote.is_busy:
            self._ended_early.clear()

    def _zygote_ended(self, zygote: Zygote) -> None:
        """It was killed; whom it bore live on, and the next are another's."""
        self._selector.unregister(zygote)
        self._zygote = None
        self._ended_early.clear()
        for number in zygote.end():
            sandbox = self._sandboxes[number]
            sandbox.status = FAILED
            self._answer(messages.FAILED, number, reason="What workers are forked from has ended.")
            self._bury(sandbox, told=False)
        if zygote.is_proven and not self._closed:
            self._start_zygote()

    def _plan(self, number: int) -> policy.Plan:
        chosen = self._configuration
        own = f"{self._scratch.path}/{number}"
        directories = policy.Directories(f"{own}/work", f"{own}/packages", self._etc)
        rest = (chosen.worker, chosen.memory_mb, chosen.timezone)
        if chosen.isolation == NONE:
            return policy.plain(chosen.places, directories, *rest)
        return policy.sandboxed(chosen.bubblewrap, chosen.places, directories, self._systems, *rest)

    def _information_readable(self, sandbox: Sandbox) -> None:
        if sandbox.information is not None and sandbox.read_information():
            self._selector.unregister(sandbox.information)
            os.close(sandbox.information)
            sandbox.information = None
            sandbox.advance_kill()

    def _reap(self) -> None:
        while True:
            try:
                # Looked at before it is reaped: until then its number, and that of its group, is its own.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            sandbox = self._processes.pop(ended.si_pid, None)
            if sandbox is not None and self._configuration.isolation == NONE:
                _kill_group(ended.si_pid)
            status = exit_status(os.waitpid(ended.si_pid, 0)[1])
            if sandbox is not None:
                self._ended(sandbox, ended.si_pid, status)
            elif self._zygote is not None:
                if ended.si_pid == self._zygote.pid:
                    self._zygote.is_reaped = True
                elif self._zygote.is_busy:
                    self._ended_early[ended.si_pid] = status

    def _ended(self, sandbox: Sandbox, pid: int, status: int) -> None:
        if pid == sandbox.monitor and sandbox.status is None:
            while sandbox.information is not None:
                self._information_readable(sandbox)
            sandbox.monitor_ended(status)
            if sandbox.first is not None:
                self._processes[sandbox.first] = sandbox
            elif self._configuration.isolation != NONE and self._zygote is None:
                self._kill_strays()
        else:
            sandbox.first_ended()
        if sandbox.is_dead:
            self._bury(sandbox, told=True)

    def _kill_strays(self) -> None:
        """
        Kill children that belong to no sandbox: of a monitor that died before it told whom it had started.
        """
        own = os.getpid()
        try:
            with open(f"/proc/self/task/{own}/children") as opened:
                children = [int(pid) for pid in opened.read().split()]
        except OSError:
            return  # the kernel does not list them; such a child has no work, and ends with its channel
        for pid in children:
            if pid not in self._processes:
                os.kill(pid, signal.SIGKILL)

    def _bury(self, sandbox: Sandbox, told: bool) -> None:
        """All of it is dead: remove its scratch, give its uid back, tell."""
        if sandbox.filling is not None and sandbox.filling in self._chores:
            self._chores.remove(sandbox.filling)
            sandbox.filling.close()
        if sandbox.packages is not None:
            os.close(sandbox.packages)
            sandbox.packages = None
        if sandbox.uid is not None and self._configuration.isolation == NONE:
            spawning.kill_all_of(sandbox.uid)
        self._step(self._removal(sandbox, told))

    # Chores.

    def _step(self, chore: Chore) -> None:
        try:
            next(chore)
        except StopIteration:
            return
        self._chores.append(chore)

    def _removal(self, sandbox: Sandbox, told: bool) -> Chore:
        try:
            yield from self._scratch.remove(sandbox.number)
        except OSError as fault:
            # The directory stays until the launcher ends; its number is not given again.
            os.write(2, f"The scratch of worker {sandbox.number} cannot be removed: {fault}\n".encode())
        if sandbox.uid is not None and self._slots is not None:
            self._slots.release(sandbox.uid)
        del self._sandboxes[sandbox.number]
        if told:
            self._answer(messages.EXITED, sandbox.number, status=sandbox.status or 0)

    def _fill(self, sandbox: Sandbox, packages: int, request: Request) -> Chore:
        try:
            for package, version in request.packages:
                yield from fill(self._source, package, version, packages)
        except (FillFault, OSError) as fault:
            self._answer(messages.UNFILLED, sandbox.number, reason=str(fault))
        else:
            self._answer(messages.FILLED, sandbox.number)
        finally:
            os.close(packages)
            sandbox.filling = None


def _receive_packet(control: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and the descriptors that came along, closed at exec (which socket.recv_fds forgets)."""
    room = socket.CMSG_SPACE(_DESCRIPTORS_LIMIT * array.array("i").itemsize)
    packet, ancillary, _, _ = control.recvmsg(messages.PACKET_LIMIT + 1, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody else was in it
        os.killpg(leader, signal.SIGKILL)


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
