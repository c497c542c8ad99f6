# SPDX-License-Identifier: MIT
"""
Where user code runs, and the only way to it.

``entry`` is called first by a daemon: as root it builds the private ``view`` of the file system, starts the
root ``launcher`` and goes on under a reserved uid; otherwise it starts the launcher as a plain child.
``check`` says whether sandboxes work on this machine; ``surroundings`` finds interpreter, environment and
package.

Who says what to whom: the daemon asks the launcher over one SOCK_SEQPACKET socket (``launcher.messages``;
our end is ``launcher_socket``), and talks with a worker over the socketpair that it passed along with
``launch`` (``worker_process``). ``warm_pool`` keeps workers ready before anybody asks.
"""
