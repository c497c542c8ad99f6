# SPDX-License-Identifier: MIT
"""
The settings of a Pydra site: plain constants, each with its meaning, unit and default.

Copy this file to /etc/pydra/, keep the lines that you change, and leave the others out: what is missing has
its default. Other places: a path given with --settings or in $PYDRA_SETTINGS; for clients also the current
directory and its config/ directory. A variable PYDRA_<NAME> in the environment goes before the file; numbers
and lists are written there as JSON. Relative paths start at the directory of the file. The file is executed,
so it must belong to you or to root, and nobody else may be able to write it.
"""

# --- the controller API -------------------------------------------------------------------------------------

# Address of the controller API: the master listens on it, clients connect to it. Host name or IP address.
# Default: "127.0.0.1", reachable from this machine only.
HOST = "127.0.0.1"

# Port of the controller API; 0 lets the system choose. Default: 18801.
CONTROLLER_PORT = 18801

# File of the administrator's controller key, which the master makes and clients log in with. Keep it secret.
# Default: empty, which means RUNTIME_FILES_DIR/master.key.
CONTROLLER_KEY = ""

# --- master and nodes ---------------------------------------------------------------------------------------

# Address that the node daemon listens on for its master. Host name or IP address.
# Default: "127.0.0.1"; a node on a machine of its own needs an address that the master can reach.
NODE_INTERFACE = "127.0.0.1"

# Port that the node daemon listens on; 0 lets the system choose. Default: 11890.
PORT = 11890

# The nodes that the master connects to: (host, port, fingerprint); a node daemon prints its fingerprint when
# it starts. Example: [("node1.example.org", 11890, "ABCD-EFGH-...")]. Default: none.
NODES = []

# Fingerprint of the only master that the node daemon accepts; the master prints it when it starts.
# Default: empty, which means that no master is accepted.
MASTER_FINGERPRINT = ""

# --- files --------------------------------------------------------------------------------------------------

# Directory of everything that a daemon keeps: identity, store, packages, logs. One directory for each daemon.
# Default: "/var/lib/pydra".
RUNTIME_FILES_DIR = "/var/lib/pydra"

# Directory whose sub-directories are the packages of tasks.
# Default: empty, which means RUNTIME_FILES_DIR/tasks.
TASKS_DIR = ""

# File of the master's store, an SQLite database. It must be on a local disk.
# Default: empty, which means RUNTIME_FILES_DIR/pydra.sqlite3.
DATABASE = ""

# Directory of the daemons' own logs. Default: empty, which means RUNTIME_FILES_DIR/logs.
LOG_DIR = ""

# The least important events that are logged: "debug", "info", "warn", "error" or "critical". Default: "info".
LOG_LEVEL = "info"

# Size in bytes at which a log file is closed and a new one begun. Default: 10485760 (10 MiB).
LOG_SIZE = 10485760

# Number of closed log files that are kept for each daemon. Default: 10.
LOG_BACKUP = 10

# --- workers ------------------------------------------------------------------------------------------------

# Number of worker slots of the node: so many task instances run at a time.
# Default: 0, which means the number of cores.
WORKERS = 0

# What is true of the node, in words of letters, digits and _.:=- ; an instance can ask for them, and runs on
# no node without. Example: ["ssd", "rack=3"]. Default: none.
LABELS = []

# What the node offers its workers, by name. An instance that asks for some of it holds it while it runs, and
# waits until there is so much left; nobody looks at what is really used. Without being named here, cpus is
# the number of cores, and memory all of it, in megabytes. Example: {"gpus": 2, "licences": 1}. Default: none.
RESOURCES = {}

# Megabytes of memory for workers that have imported ahead what is in use, so that the next task of a package
# that imports much starts as fast as any other; at most as many workers as there are slots. They have run the
# code of the module before there is a task: where that must not be, 0 turns it off. Default: 256.
PRIMED_MEMORY_MB = 256

# What task code runs in: "sandbox", or "none" for no isolation at all. With "none" every task can do whatever
# the daemon can; it is meant for machines that have no sandbox and run trusted code only. Default: "sandbox".
ISOLATION = "sandbox"

# The sandbox tool, bubblewrap. Default: empty, which means the bwrap that is found on PATH.
BUBBLEWRAP = ""

# User ids that the daemons take when root starts them. Nothing else may use them. Defaults: 60706 and 60707.
SERVICE_UID_MASTER = 60706
SERVICE_UID_NODE = 60707

# First and last of the user ids that worker slots take when root starts the daemons; nothing else may use
# them. Default: (60710, 61183).
SLOT_UIDS = (60710, 61183)

# What one worker and all its processes together may use: the usual amount, and the ceiling, which is the most
# that a package may ask for in its META. A ceiling of 0 is what the machine has.

# Memory in megabytes (memory). Defaults: 1024 and 0.
WORKER_MEMORY_MB = 1024
MEMORY_CEILING_MB = 0

# Processes and threads (processes). Defaults: 128 and 4096.
WORKER_PROCESSES = 128
PROCESSES_CEILING = 4096

# Cores (cpu); usually 0.0, which is no limit but one worker's share of a busy machine. It is kept only where
# the daemon was started by root and the machine has control groups. Defaults: 0.0 and 0.0.
WORKER_CPUS = 0.0
CPUS_CEILING = 0.0

# Megabytes on disk in its scratch directory (scratch), and of any one file. Defaults: 2048 and 0.
WORKER_SCRATCH_MB = 2048
SCRATCH_CEILING_MB = 0

# Files and directories in its scratch directory. Default: 100000.
WORKER_FILES = 100000

# Whether tasks of a package whose META says "network: true" get the network of this machine, all of it: its
# own services on 127.0.0.1 too. Without this setting such tasks fail, and say why. Default: False.
ALLOW_NETWORK = False

# Directories that every task on this node may read: a task sees them as /data/<name>.
# Example: {"genomes": "/srv/genomes"}. Default: none.
SANDBOX_MOUNTS = {}

# Where the daemon makes its control groups when root starts it, below the root of each hierarchy; empty for
# not at all, and then memory and processes are only looked at once a second. Default: "pydra".
CGROUP = "pydra"

# --- times and scheduling -----------------------------------------------------------------------------------

# Seconds between two heartbeats of a node. Default: 5.0.
HEARTBEAT_S = 5.0

# Seconds of silence after which a node gets no new work; above HEARTBEAT_S. Default: 15.0.
SUSPECT_S = 15.0

# Seconds of silence after which the work of a node is taken to be lost and queued again; above SUSPECT_S.
# Default: 60.0.
LEASE_S = 60.0

# Seconds without an answer of the master after which a node ends what is exclusive, and seconds of silence of
# a node after which that is taken to be ended and queued again. Every daemon must have the same two: above
# HEARTBEAT_S, and the second well above the first. Defaults: 30.0 and 45.0.
EXCLUSIVE_STOP_S = 30.0
EXCLUSIVE_LEASE_S = 45.0

# Seconds that a task has between being asked to stop and being killed. Default: 10.0.
STOP_GRACE_S = 10.0

# Seconds that a node lets its workers go on while it does not hear of its master. Default: 600.0.
ORPHAN_GRACE_S = 600.0

# Seconds that the workers of a session wait for a client that is gone; then it pauses. Default: 60.0.
SESSION_GRACE_S = 60.0

# Seconds for which such a session stays paused; then it is cancelled. Default: 600.0.
SESSION_KEEP_S = 600.0

# After so many losses of its worker or its node an instance, or one of its work units, has failed for good.
# Default: 3.
LOSS_LIMIT = 3

# Which of the nodes that could take it gets the next worker: "leastload", the one with the smallest share of
# busy slots; "lru", the one that was given nothing for the longest time; "plainrandom", any; "twobin", the
# less loaded of two at random; "weighted", like twobin, but with the inverse of the load as weight.
# Default: "leastload".
PLACEMENT = "leastload"

# --- packages -----------------------------------------------------------------------------------------------

# Seconds between two looks at TASKS_DIR for changed packages. Default: 2.0.
SCAN_S = 2.0

# Versions of each package that the master keeps, the newest; older ones are removed when nothing needs them.
# Default: 5.
KEEP_VERSIONS = 5

# Megabytes of package versions that a node keeps, those used last; what runs there keeps its own in any case.
# Default: 1024.
PACKAGE_CACHE_MB = 1024

# Whether the requirements that packages list in META are installed, by pip and from wheels alone, for
# describing them on the master and for running their tasks on this node. Without it such packages cannot be
# used. Default: False.
ALLOW_REQUIREMENTS = False

# Where the wheels come from: the address of an index, a directory of wheels (of this machine), or both.
# PACKAGE_CACHE_MB holds for what is installed as well. Default: "" and "".
REQUIREMENTS_INDEX = ""
REQUIREMENTS_WHEELS = ""

# --- results and log lines ----------------------------------------------------------------------------------

# Megabytes that the result of one run may have, packed; 1024 is the most that there is. That of a work unit
# may have 8. Default: 1024.
RESULT_LIMIT_MB = 1024

# Megabytes of results that a node keeps on its disk until the master has recorded them; above that it takes
# no new work, and a result above 8 MB waits in its worker until there is room for all of it. One that is
# larger than this by itself comes when there is no other. Default: 1024.
OUTBOX_LIMIT_MB = 1024

# Bytes of log lines that are kept of one task instance; what follows is dropped, and said to be.
# Default: 16777216 (16 MiB).
LOG_LIMIT = 16777216

# Days that the master keeps the log lines of a task instance after the last of them. Default: 90.
LOG_KEEP_DAYS = 90

# Megabytes of log lines that the master keeps of all task instances; the oldest are removed first.
# Default: 1024.
LOG_ARCHIVE_MB = 1024
