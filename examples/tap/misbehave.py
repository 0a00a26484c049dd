"""Behave in one of the ways that a runner of other people's programs must survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FLOOD_BYTES = 200_000_000
LINE = b"x" * 99 + b"\n"
LINES_PER_WRITE = 10_000


def exits_nonzero() -> int:
    """Print a little, then exit with code 7."""
    print("about to fail")
    return 7


def hangs() -> int:
    """Sleep forever."""
    print("sleeping forever", flush=True)
    while True:
        time.sleep(3600)


def ignores_sigterm() -> int:
    """Ignore SIGTERM and sleep forever: only SIGKILL ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hangs()


def floods_output() -> int:
    """Print 200 MB of lines, then exit with code 0."""
    block = LINE * LINES_PER_WRITE
    for _ in range(FLOOD_BYTES // len(block)):
        sys.stdout.buffer.write(block)
    return 0


def leaves_a_process() -> int:
    """Start `sleep 300`, which keeps stdout open, and exit with code 0 without it."""
    left = subprocess.Popen(("sleep", "300"))
    print(f"left process {left.pid} behind")
    left.returncode = 0  # keeps Python from warning about a process still running
    return 0


def reads_stdin() -> int:
    """Read stdin to its end, print how many bytes there were, exit with code 0."""
    print(f"read {len(sys.stdin.buffer.read())} bytes")
    return 0


def killed_by_signal() -> int:
    """Kill itself with SIGKILL."""
    print("about to be killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def prints_commands() -> int:
    """Print what CI systems would take for commands, then exit with code 0."""
    print("::error::not ours")
    print("##[group]not ours")
    print("--- not ours")
    print("\r::endgroup::")
    return 0


def well_behaved() -> int:
    """Print a little, then exit with code 0."""
    print("all is well")
    return 0


BEHAVIOURS: dict[str, Callable[[], int]] = {
    behaviour.__name__.replace("_", "-"): behaviour
    for behaviour in (
        exits_nonzero,
        hangs,
        ignores_sigterm,
        floods_output,
        leaves_a_process,
        reads_stdin,
        killed_by_signal,
        prints_commands,
        well_behaved,
    )
}


def usage() -> str:
    """List the names, each with what it does."""
    lines = (f"  {name:<17} {behaviour.__doc__}" for name, behaviour in BEHAVIOURS.items())
    return "\n".join(("usage: misbehave.py NAME", "", *lines))


def main(*names: str) -> int:
    """Behave as the one name says, or list the names and give 2."""
    if len(names) != 1 or names[0] not in BEHAVIOURS:
        print(usage(), file=sys.stderr)
        return 2
    return BEHAVIOURS[names[0]]()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
