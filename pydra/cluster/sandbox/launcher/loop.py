# SPDX-License-Identifier: MIT
"""The launcher's loop: one thing after the other, long ones (removing, filling) in small steps between."""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
from collections import deque
from collections.abc import Generator

from pydra.cluster.sandbox.launcher import messages, spawning, watching
from pydra.cluster.sandbox.launcher.answers import Answers
from pydra.cluster.sandbox.launcher.bounds import BoundsFault, read_bounds, words
from pydra.cluster.sandbox.launcher.cgroups import MEMORY, Groups, open_groups
from pydra.cluster.sandbox.launcher.configuration import NONE, Configuration
from pydra.cluster.sandbox.launcher.deadlines import Deadlines
from pydra.cluster.sandbox.launcher.filling import FillFault, Source, fill, passes
from pydra.cluster.sandbox.launcher.forking.start import start_zygote
from pydra.cluster.sandbox.launcher.forking.zygote import Zygote, ZygoteFault
from pydra.cluster.sandbox.launcher.making import Maker
from pydra.cluster.sandbox.launcher.messages import Request, RequestFault
from pydra.cluster.sandbox.launcher.sandboxes import Sandbox, exit_status
from pydra.cluster.sandbox.launcher.scratch import Scratch, open_directory
from pydra.cluster.sandbox.launcher.slots import NoSlot, SlotLeases
from pydra.cluster.sandbox.launcher.usage_watch import UsageWatch

FAILED = 126
"""Status of a worker that never began."""

_REMOVAL_TRIES = 50
"""Tries to remove a group whose last process is just ending."""

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
        self._usage = UsageWatch(self._scratch)
        self._deadlines = Deadlines()
        self._maker = Maker(configuration, self._scratch)
        self._groups: Groups | None = open_groups(configuration.group) if configuration.group else None
        self._source = Source(
            open_directory(configuration.cache), configuration.cache_owner, configuration.isolation != NONE
        )
        self._sandboxes: dict[int, Sandbox] = {}
        self._processes: dict[int, Sandbox] = {}
        """Sandboxes by pid of the monitor, and of the first process once its monitor is dead."""
        self._zygote: Zygote | None = None
        """What workers are forked from; None where bubblewrap makes them."""
        self._ended_early: dict[int, int] = {}
        """Statuses by pid of children that nobody knew: one may be told as born next."""
        self._chores: deque[Chore] = deque([self._scratch.remove_leftovers()])
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._answers = Answers(control, self._selector)

    def run(self) -> None:
        """Serve until the daemon is gone and nothing is left."""
        spawning.raise_descriptor_limit()
        spawning.adopt_orphans()
        wakes, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in spawning.IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(wakes, selectors.EVENT_READ)
        self._selector.register(self._deadlines, selectors.EVENT_READ)
        self._start_zygote()
        while not self._closed or self._sandboxes:
            for key, mask in self._selector.select(self._pause()):
                if key.fd == wakes:
                    os.read(wakes, 4096)
                    self._reap()
                elif key.fileobj is self._deadlines:
                    self._end_overdue()
                elif isinstance(key.data, Zygote):
                    self._zygote_readable(key.data)
                elif key.data is not None:
                    self._information_readable(key.data)
                else:
                    if mask & selectors.EVENT_WRITE:
                        self._answers.flush()
                    if mask & selectors.EVENT_READ and not self._closed:
                        self._receive()
            self._chores.extend(self._usage.due(self._sandboxes.values()))
            if self._closed and self._zygote is not None and self._zygote.is_stuck:
                self._zygote_ended(self._zygote)
            if self._chores:
                self._step(self._chores.popleft())
        if self._zygote is not None:
            self._zygote.end()
        self._scratch.close()
        self._deadlines.close()
        if self._groups is not None:
            self._groups.close()
        if self._slots is not None:
            self._slots.close()

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None for as long as nothing happens."""
        if self._chores:
            return 0.0
        return watching.INTERVAL_S if self._sandboxes else None

    # The daemon.

    def _receive(self) -> None:
        try:
            packet, descriptors = messages.receive(self._control)
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
            self._answers.put(messages.REFUSED, fault.number, reason=str(fault))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _obey(self, request: Request, descriptors: list[int]) -> None:
        if request.what == messages.LAUNCH:
            if request.number in self._sandboxes:
                raise RequestFault("The id is in use.")
            if len(descriptors) != 2:
                raise RequestFault("A launch needs two descriptors.", request.number)
            self._launch(request, *descriptors)
            return
        sandbox = self._sandboxes.get(request.number)
        if request.what == messages.KILL:
            if sandbox is None:
                # Its end was told, if it ever began.
                self._answers.put(messages.FAILED, request.number, reason="There is no such worker.")
            elif sandbox.status is None:
                self._kill(sandbox)
        elif request.what == messages.UNTIL:
            if sandbox is not None and sandbox.status is None:
                self._deadlines.put(request.number, request.until)
        elif sandbox is None:
            self._answers.put(messages.UNFILLED, request.number, reason="There is no such worker.")
        elif sandbox.status is not None:
            pass  # its end is told next
        elif sandbox.packages is None:
            self._answers.put(messages.UNFILLED, request.number, reason="The worker has a package already.")
        else:
            self._catch_up(sandbox)
            chore = self._fill(sandbox, sandbox.packages, request)
            sandbox.packages, sandbox.filling = None, chore
            self._step(chore)

    def _end_overdue(self) -> None:
        """End those that were given no more time."""
        for number in self._deadlines.take_due():
            sandbox = self._sandboxes.get(number)  # none, if the end of another one took it along
            if sandbox is not None and sandbox.status is None:
                sandbox.is_overdue = True
                self._kill(sandbox)

    def _kill(self, sandbox: Sandbox) -> None:
        sandbox.note_reached()
        sandbox.kill()
        if self._zygote is not None and self._zygote.is_stuck:
            self._zygote_ended(self._zygote)

    def _daemon_gone(self) -> None:
        self._closed = True
        self._answers.close()
        for sandbox in list(self._sandboxes.values()):
            if sandbox.status is None:
                sandbox.kill()

    # Sandboxes.

    def _launch(self, request: Request, channel: int, output: int) -> None:
        number = request.number
        uid = group = None
        try:
            if request.network and not self._configuration.network:
                raise PermissionError("This node gives no worker the network.")
            group = self._groups.make(number) if self._groups is not None else None
            uid = self._slots.lease() if self._slots is not None else None
            packages = self._scratch.make(number, uid)
        except (NoSlot, OSError) as fault:
            if uid is not None and self._slots is not None:
                self._slots.release(uid)
            if group is not None:
                group.remove()
            self._answers.put(messages.FAILED, number, reason=str(fault))
            return
        sandbox = Sandbox(number, uid, packages, self._configuration.defaults, group)
        self._sandboxes[number] = sandbox
        sandbox.is_forked = self._zygote is not None and not request.network and not request.probe
        try:
            if group is not None:
                group.limit(sandbox.bounds, sandbox.own_processes)
            self._start(sandbox, request, channel, output)
        except OSError as fault:
            self._answers.put(messages.FAILED, number, reason=str(fault))
            sandbox.status = FAILED
            self._bury(sandbox, told=False)
            return
        self._answers.put(messages.LAUNCHED, number, pid=sandbox.monitor)

    def _start(self, sandbox: Sandbox, request: Request, channel: int, output: int) -> None:
        if self._zygote is not None and sandbox.is_forked:
            self._zygote.bear(sandbox.number, sandbox.uid, channel, output)
            return
        self._maker.start(sandbox, request, channel, output)
        self._processes[sandbox.monitor] = sandbox
        if sandbox.information is not None:
            self._selector.register(sandbox.information, selectors.EVENT_READ, sandbox)

    # Forking.

    def _start_zygote(self) -> None:
        """Have workers forked from now on, if that can be had here."""
        limited = self._groups is not None and MEMORY in self._groups.controllers
        self._zygote = start_zygote(self._configuration, self._maker, self._scratch, self._slots, limited)
        if self._zygote is not None:
            self._selector.register(self._zygote, selectors.EVENT_READ, self._zygote)

    def _zygote_readable(self, zygote: Zygote) -> None:
        if zygote is not self._zygote:
            return  # it was ended just now
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
            sandbox.join()
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
            self._answers.put(messages.FAILED, number, reason="What workers are forked from has ended.")
            self._bury(sandbox, told=False)
        if zygote.is_proven and not self._closed:
            self._start_zygote()

    def _information_readable(self, sandbox: Sandbox) -> None:
        if sandbox.information is not None and sandbox.read_information():
            self._selector.unregister(sandbox.information)
            os.close(sandbox.information)
            sandbox.information = None
            sandbox.advance_kill()

    def _catch_up(self, sandbox: Sandbox) -> None:
        """Read now what bubblewrap has told: who is ready has been told of."""
        while sandbox.information is not None:
            poll = select.poll()
            poll.register(sandbox.information, select.POLLIN)
            if not poll.poll(0):
                return
            self._information_readable(sandbox)

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
                spawning.kill_group(ended.si_pid)
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
            sandbox.status = status  # it is reaped: its number may be another process's from here on
            while sandbox.information is not None:
                self._information_readable(sandbox)
            sandbox.note_reached()
            sandbox.monitor_ended(status)
            if sandbox.first is not None:
                self._processes[sandbox.first] = sandbox
            elif self._configuration.isolation != NONE and not sandbox.is_forked:
                self._kill_strays()
        else:
            sandbox.first_ended()
        if sandbox.is_dead:
            self._bury(sandbox, told=True)

    def _kill_strays(self) -> None:
        """
        Kill children that belong to no sandbox: of a monitor that died before it told whom it had started.
        """
        # One of them may be about to be told as born. A stray has no work, and ends with its channel.
        if self._zygote is None or not self._zygote.is_busy:
            zygote = () if self._zygote is None else (self._zygote.pid,)
            spawning.kill_children_but({*self._processes, *zygote})

    def _bury(self, sandbox: Sandbox, told: bool) -> None:
        """All of it is dead: remove its scratch, give its uid back, tell."""
        self._deadlines.forget(sandbox.number)
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
            yield from self._usage.last_look(sandbox)
            yield from self._scratch.remove(sandbox.number)
        except OSError as fault:
            # The directory stays until the launcher ends; its number is not given again.
            os.write(2, f"The scratch of worker {sandbox.number} cannot be removed: {fault}\n".encode())
        for _ in range(_REMOVAL_TRIES):
            if sandbox.group is None or sandbox.group.remove():
                break
            yield  # what is left of it is removed with the launcher's own group, or by the next launcher
        if sandbox.uid is not None and self._slots is not None:
            self._slots.release(sandbox.uid)
        del self._sandboxes[sandbox.number]
        if told:
            reached = words(sandbox.reached, sandbox.bounds) if sandbox.reached else ""
            status, overdue = sandbox.status or 0, sandbox.is_overdue
            self._answers.put(messages.EXITED, sandbox.number, status=status, limit=reached, overdue=overdue)

    def _fill(self, sandbox: Sandbox, packages: int, request: Request) -> Chore:
        try:
            chosen = self._configuration
            asked = request.bounds
            sandbox.bind(chosen.defaults if asked is None else read_bounds(asked, chosen.ceilings))
            for package, version in request.packages:
                yield from fill(self._source, package, version, packages)
        except (FillFault, BoundsFault) as fault:
            self._answers.put(messages.UNFILLED, sandbox.number, reason=str(fault))
        except OSError as fault:
            self._answers.put(messages.UNFILLED, sandbox.number, reason=str(fault), passes=passes(fault))
        else:
            self._answers.put(messages.FILLED, sandbox.number)
        finally:
            os.close(packages)
            sandbox.filling = None
