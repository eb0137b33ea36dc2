"""The first steps of a child that is not trusted: limits, no network, and then the program itself. Run as a script.

    python -I -S confine.py MEMORY_BYTES CPU_SECONDS FILE_BYTES PARENT PROGRAM ARGUMENT...

It runs in the child, before `exec`, so that nothing has to happen between fork and exec of a process with threads.
What a system does not have (namespaces, the signal of a parent's death) is left out; the limits hold everywhere.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
FILES_MAX = 64
NICE = 10
THREADS_MAX = 128


def confine(memory: int, cpu: int, size: int, parent: int) -> None:
    """From now on this process can do little harm, and dies with the process that started it."""
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu, cpu + 2),
        (resource.RLIMIT_FSIZE, size, size),
        (resource.RLIMIT_NOFILE, FILES_MAX, FILES_MAX),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a system that refuses one of them keeps the others
            resource.setrlimit(what, (soft, hard))
    os.nice(NICE)
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        if counts_by_namespace():
            resource.setrlimit(resource.RLIMIT_NPROC, (THREADS_MAX, THREADS_MAX))
    else:
        libc.unshare(CLONE_NEWNET)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could be told
        os._exit(1)


def counts_by_namespace() -> bool:
    """Since Linux 5.14 the limit of processes counts those of one's own namespace, not all of the user's."""
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1])) >= (5, 14)


if __name__ == "__main__":
    confine(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606  # no shell is what we want
