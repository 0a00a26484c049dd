"""What our namespace adds to `invoke --list`, which shells also run to complete a word."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import figures

BAR = 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="pairs of runs (default: %(default)s)")
    options = parser.parse_args()
    words = (*figures.INVOKE, "--list")
    environment = figures.environment()
    with tempfile.TemporaryDirectory(prefix="ci-tasks-bench-") as scratch:
        ours = figures.write(Path(scratch) / "ours", {"tasks.py": figures.TASKS})
        empty = figures.write(Path(scratch) / "empty", {"tasks.py": figures.EMPTY_TASKS})
        print("A: invoke --list with our namespace, B: with one trivial task", flush=True)
        return figures.verdict(
            figures.compare(
                "list speed",
                lambda: figures.seconds(words, ours, environment),
                lambda: figures.seconds(words, empty, environment),
                runs=options.runs,
                bar=BAR,
            )
        )


if __name__ == "__main__":
    raise SystemExit(main())
