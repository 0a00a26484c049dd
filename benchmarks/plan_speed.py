"""What `ci.plan` costs on a large change: against starting Invoke and asking git for the same change."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import figures

if TYPE_CHECKING:
    from collections.abc import Iterator

BAR = 2.5
FILES = 100_000
RECIPES = 10_000
"""Files that are items; the first `CHANGED` of them are changed, and as many of the other files."""
CHANGED = 5_000

CONFIG = """\
[platforms.linux-amd64]
runs-on = "ubuntu-24.04"

[platforms.linux-arm64]
runs-on = "ubuntu-24.04-arm"

[platforms.darwin-arm64]
runs-on = "macos-15"

[platforms.darwin-amd64]
runs-on = "macos-15-intel"

[suites.recipes]
include = ["recipes/**/*.toml"]
command = "./install {name}"

[suites.recipes.metadata]
os = "metadata.supported_os"
arch = "metadata.supported_arch"
except = "metadata.unsupported_platforms"
depends = "metadata.runtime_dependencies"
"""

RECIPE = """\
[metadata]
name = "%(name)s"
description = "What the tool number %(number)d does, in a few words"
homepage = "https://example.org/%(name)s"
version = "%(version)d.4.2"
supported_os = %(systems)s
unsupported_platforms = %(exceptions)s
runtime_dependencies = ["openssl", "zlib"]

[[steps]]
action = "download"
url = "https://example.org/%(name)s/%(version)d.4.2.tar.gz"

[verify]
command = "%(name)s --version"
"""


def recipe(number: int, version: int) -> tuple[str, str]:
    """Return path and text of an item; some support one system only, some leave a platform out."""
    name = f"tool-{number:05d}"
    systems = '["linux"]' if number % 10 == 0 else '["linux", "darwin"]'
    exceptions = '["darwin/amd64"]' if number % 7 == 0 else "[]"
    values = {
        "name": name,
        "number": number,
        "version": version,
        "systems": systems,
        "exceptions": exceptions,
    }
    return f"recipes/{number % 100:02d}/{name}.toml", RECIPE % values


def source(number: int, version: int) -> tuple[str, str]:
    return f"source/{number % 300:03d}/file-{number:05d}.txt", f"file {number}, version {version}\n"


def files(version: int, recipes: int, others: int) -> Iterator[tuple[str, str]]:
    yield from (recipe(number, version) for number in range(recipes))
    yield from (source(number, version) for number in range(others))


def commits() -> Iterator[str]:
    """Yield what `git fast-import` reads: a commit with every file, and one with the change."""
    for version, recipes, others in ((1, RECIPES, FILES - RECIPES), (2, CHANGED, CHANGED)):
        yield f"commit refs/heads/main\ncommitter bench <bench@localhost> {version} +0000\ndata 0\n"
        for path, text in files(version, recipes, others):
            yield f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"


def repository(folder: Path) -> Path:
    """Make the repository; nothing is checked out but what Invoke and we read."""
    figures.write(folder, {"tasks.py": figures.TASKS, "ci.toml": CONFIG})
    environment = figures.environment()
    subprocess.run(("git", "init", "-q", "-b", "main"), cwd=folder, env=environment, check=True)
    stream = "".join(commits()).encode("ascii")
    subprocess.run(("git", "fast-import", "--quiet"), input=stream, cwd=folder, env=environment, check=True)
    return folder


def check(project: Path, words: tuple[str, ...]) -> None:
    """Make sure that the plan is the one that is to be timed."""
    done = subprocess.run(words, cwd=project, env=figures.environment(), stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    (suite,) = document["suites"]
    found = (document["changed"], suite["total"], len(suite["items"]))
    if found != (2 * CHANGED, RECIPES, CHANGED):
        raise SystemExit(f"ci.plan saw {found[0]} changes and {found[1]} items, and selected {found[2]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="pairs of runs (default: %(default)s)")
    options = parser.parse_args()
    base, head = "main~1", "main"
    environment = figures.environment()
    plan = (*figures.INVOKE, "ci.plan", "--base", base, "--head", head, "--format", "json")
    listing = (*figures.INVOKE, "--list")
    diff = ("git", "diff", "-z", "--name-status", base, head)
    with tempfile.TemporaryDirectory(prefix="ci-tasks-bench-") as scratch:
        project = repository(Path(scratch).resolve() / "project")
        empty = figures.write(Path(scratch) / "empty", {"tasks.py": figures.EMPTY_TASKS})
        check(project, plan)
        print(f"{FILES} files, {2 * CHANGED} changed, {CHANGED} of them items with metadata", flush=True)
        print(
            "A: invoke ci.plan --format json, B: invoke --list without us + git diff --name-status",
            flush=True,
        )
        return figures.verdict(
            figures.compare(
                "plan speed",
                lambda: figures.seconds(plan, project, environment),
                lambda: (
                    figures.seconds(listing, empty, environment) + figures.seconds(diff, project, environment)
                ),
                runs=options.runs,
                bar=BAR,
            )
        )


if __name__ == "__main__":
    raise SystemExit(main())
