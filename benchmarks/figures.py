"""What the benchmarks share: both sides run in turns, one line per figure, an exit code by its bar."""

from __future__ import annotations

import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

INVOKE = (sys.executable, "-m", "invoke")
"""Starts Invoke in whichever environment the benchmark runs in."""
TASKS = 'from ci_tasks import ns\n\n__all__ = ["ns"]\n'
"""A `tasks.py` with our namespace."""
EMPTY_TASKS = """\
from invoke import Collection, task


@task
def nothing(_context):
    pass


ns = Collection(nothing)
"""
"""A `tasks.py` with as little as `invoke --list` accepts: an empty namespace makes it exit 1."""
MISSED = 1
UNABLE = 2
"""Exit code when a side cannot run here."""

_DROPPED = ("GITHUB_", "RUNNER_", "BUILDKITE", "GIT_")
"""Start of what a CI job or a git hook sets, and what would make two machines measure different things."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Side = Callable[[], float]
"""Runs one side once, from a fresh start, and returns its wall seconds."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What came of running both sides: a value whose word and exit code follow from its bar."""

    name: str
    pairs: tuple[tuple[float, float], ...]
    """Wall seconds of A and of B, which ran right after it."""
    bar: float
    """What the median of A / B may be at most."""

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(ours / theirs for ours, theirs in self.pairs)

    @property
    def met(self) -> bool:
        return statistics.median(self.ratios) <= self.bar

    def __str__(self) -> str:
        ours, theirs = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        return (
            f"{self.name}: A {ours:.2f} s, B {theirs:.2f} s, ratio {middle:.2f} (bar {self.bar:.2f}): {word(self.met)}"
            f"; {len(self.pairs)} pairs: min {low:.2f}, median {middle:.2f}, max {high:.2f}"
        )


def compare(name: str, ours: Side, theirs: Side, *, runs: int, bar: float) -> Figure:
    """Run A B A B …, after one pair that does not count."""
    warn_uncompiled()
    ours()
    theirs()
    return Figure(name=name, pairs=tuple((ours(), theirs()) for _ in range(runs)), bar=bar)


def verdict(figure: Figure) -> int:
    """Print a figure and return the exit code."""
    print(figure, flush=True)
    return 0 if figure.met else MISSED


def warn_uncompiled() -> None:
    """Say so when ours has to be compiled in every run, unlike what pip installs for a user.

    Invoke sets `sys.dont_write_bytecode` (but for `--write-pyc`), so no run does it for the next one.
    """
    found = importlib.util.find_spec("ci_tasks")
    if found and found.cached and not os.path.exists(found.cached):  # noqa: PTH110  # it is a string
        print(
            "note: A compiles ci_tasks in every run; measure where it is installed, not editable",
            file=sys.stderr,
        )


def word(met: bool) -> str:
    return "ok" if met else "MISSED"


def seconds(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Run a command that has to exit with 0, its output going to a file, and return its wall seconds."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        done = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
        taken = time.perf_counter() - start
        if done.returncode:
            out.seek(0)
            tail = out.read()[-2000:].decode("utf-8", "replace")
            raise SystemExit(f"{' '.join(words)} exited with {done.returncode}:\n{tail}")
    return taken


def environment(**more: str) -> dict[str, str]:
    """Return our environment without what CI and git set, without the user's git configuration, and with `more`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_DROPPED) and name != "CI"
    }
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # so that the other modules are compiled once
    who = {
        f"GIT_{role}_{key}": "bench@localhost"
        for role in ("AUTHOR", "COMMITTER")
        for key in ("NAME", "EMAIL")
    }
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} | who | more


def job(temporary: Path) -> dict[str, str]:
    """Return the environment of a job of GitHub Actions whose `runner.temp` is the given folder."""
    return environment(CI="true", GITHUB_ACTIONS="true", RUNNER_TEMP=os.fspath(temporary))


def repository(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a git repository with one commit that holds these files."""
    write(folder, files)
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "all")):
        subprocess.run(("git", *words), cwd=folder, env=environment(), check=True)
    return folder


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a folder with these files, by name."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def host() -> str:
    """Return the name of this machine as a platform of `ci.toml`."""
    name = platform.machine().lower()
    return f"{platform.system().lower()}-{_MACHINES.get(name, name)}"
