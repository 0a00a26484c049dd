"""What an item that floods its output leaves behind: our peak memory, and the size of its log."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import figures

MEGABYTE = 10**6
MEMORY_BAR = 100 * MEGABYTE
LOG_BAR = 12 * MEGABYTE
SCALE = 10
"""The side that keeps all output in memory gets this part of it."""

# Linux: VmHWM is of this process since it was started. `ru_maxrss`, from wait4 as from getrusage, is not: it
# starts at what the forking parent had (exec keeps the maximum), and wait4 adds children that were waited for.
PEAK = """\
import os, resource, sys
from pathlib import Path

def note_peak():
    if sys.platform == "linux":
        (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
        peak = int(line.split()[1]) * 1024
    else:  # macOS: bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(os.environ["BENCH_PEAK"]).write_text(str(peak))
"""

TASKS = PEAK + "\nimport atexit\nfrom ci_tasks import ns\n\natexit.register(note_peak)\n"
"""A `tasks.py` with our namespace that writes down the peak of the `invoke` process, as the last thing it does."""
CAPTURE = (
    PEAK + "\nimport subprocess\nsubprocess.run(sys.argv[1:], capture_output=True, check=True)\nnote_peak()\n"
)

CONFIG = """\
[platforms.%(host)s]
runs-on = "this-machine"

[suites.flood]
items = ["flood"]
command = %(command)s
timeout = "30m"
"""


@dataclass(frozen=True, kw_only=True)
class Flood:
    """What one run of the flood took."""

    seconds: float
    peak: int
    """Bytes of memory that the process had at most, without its children."""
    log: int = 0
    """Bytes of the item's log."""


def flood(size: int) -> tuple[str, ...]:
    """Return a command that prints so many bytes, as fast as a pipe takes them and without a line end."""
    return ("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x")


def batch(folder: Path, size: int) -> Flood:
    config = CONFIG % {"host": figures.host(), "command": json.dumps(flood(size))}
    project = figures.repository(folder / "project", {"tasks.py": TASKS, "ci.toml": config})
    peak = folder / "peak-of-invoke"
    (folder / "temporary").mkdir()
    environment = figures.job(folder / "temporary") | {"BENCH_PEAK": str(peak)}
    taken = figures.seconds((*figures.INVOKE, "ci.run-batch", "--all"), project, environment)
    (log,) = (project / ".ci-tasks" / "runs").glob("*/logs/*.log")
    return Flood(seconds=taken, peak=int(peak.read_text("ascii")), log=log.stat().st_size)


def capture(folder: Path, size: int) -> Flood:
    peak = folder / "peak-of-capture"
    environment = figures.environment(BENCH_PEAK=str(peak))
    taken = figures.seconds((sys.executable, "-c", CAPTURE, *flood(size)), folder, environment)
    return Flood(seconds=taken, peak=int(peak.read_text("ascii")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--bytes", type=int, default=2 * 10**9, help="bytes that the item prints (default: %(default)s)"
    )
    size = parser.parse_args().bytes
    with tempfile.TemporaryDirectory(prefix="ci-tasks-bench-") as scratch:
        folder = Path(scratch).resolve()
        print(f"an item that prints {size // MEGABYTE} MB; A: invoke ci.run-batch --all,", end=" ")
        print(f"B: subprocess.run with capture_output of {size // SCALE // MEGABYTE} MB", flush=True)
        ours, theirs = batch(folder, size), capture(folder, size // SCALE)
        alone = figures.seconds(("sh", "-c", f"{flood(size)[-1]} >/dev/null"), folder, figures.environment())
    small, short = ours.peak < MEMORY_BAR, ours.log < LOG_BAR
    print(
        f"flood memory: A {megabytes(ours.peak)}, B {megabytes(theirs.peak)}, ratio {ours.peak / theirs.peak:.2f}"
        f" (bar for A {megabytes(MEMORY_BAR)}): {figures.word(small)}"
    )
    print(f"flood log: A {megabytes(ours.log)} (bar {megabytes(LOG_BAR)}): {figures.word(short)}")
    print(
        f"flood time: A {ours.seconds:.2f} s, the command alone into /dev/null {alone:.2f} s, ratio {ours.seconds / alone:.2f} (no bar)"
    )
    return 0 if small and short else figures.MISSED


def megabytes(count: int) -> str:
    return f"{count / MEGABYTE:.1f} MB"


if __name__ == "__main__":
    raise SystemExit(main())
