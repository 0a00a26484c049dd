"""Processes that outlive the command that started them.

On Linux we become the parent of what is left when its own parent dies, wherever its session and its group:
a list of our children then names it (see PR_SET_CHILD_SUBREAPER in prctl(2)). Elsewhere only the group
of a command can be found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterable
from pathlib import Path


def adopt() -> None:
    """From now on, become the parent of orphans among our descendants; on Linux only."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # only here, and only where a batch runs

        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def adopted(ours: Collection[int], home: str, *, alone: bool) -> list[int]:
    """Return the living orphans that a command has left; those that have ended are reaped.

    :param ours: process ids that are no orphans: the commands themselves
    :param home: the command's `HOME`, which tells its orphans from those of others
    :param alone: whether no other command runs, so that every orphan is this one's
    """
    found = [pid for pid in _children() if pid not in ours and not _reaped(pid)]
    return [pid for pid in found if alone or _has_home(pid, home)]


def _children() -> list[int]:
    """Return the process ids of our children; none where the system does not tell."""
    try:
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no Linux, or one without this file
        return []
    try:
        return [int(pid) for pid in os.read(descriptor, 2**16).split()]
    finally:
        os.close(descriptor)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _has_home(pid: int, home: str) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended
        return False
    return b"HOME=" + os.fsencode(home) in variables


def kill(pids: Iterable[int]) -> None:
    """End orphans at once; they are our children, so no other process can have their numbers."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def group_lives(group: int) -> bool:
    """Tell whether a process of a group is left, after reaping those that became ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        return False
    return True
