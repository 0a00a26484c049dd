"""What one item costs beside its own work: `ci.run-batch` against the bash loop it replaces."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import figures

BAR = 0.5
COMMAND = "./tsuku install --force"

# “Job Iteration Pattern” of the seed, as it is printed there.
LOOP = """\
FAILED=()
ITEMS='${{ needs.detect-changes.outputs.macos_items }}'
CACHE_DIR="${{ runner.temp }}/tsuku-cache/downloads"
mkdir -p "$CACHE_DIR"

for recipe in $(echo "$ITEMS" | jq -r '.[]'); do
  echo "::group::Testing $recipe"

  # Fresh TSUKU_HOME per recipe with shared download cache
  export TSUKU_HOME="${{ runner.temp }}/tsuku-$recipe"
  mkdir -p "$TSUKU_HOME/cache"
  ln -s "$CACHE_DIR" "$TSUKU_HOME/cache/downloads"

  if ! ./tsuku install --force "$recipe"; then
    FAILED+=("$recipe")
  fi
  echo "::endgroup::"
done

# Report failures at end (don't fail fast)
if [ ${#FAILED[@]} -gt 0 ]; then
  echo "::error::Failed recipes: ${FAILED[*]}"
  exit 1
fi
"""

CONFIG = """\
[platforms.%(host)s]
runs-on = "this-machine"

[suites.recipes]
items = %(items)s
command = "%(command)s {name}"
home = "TSUKU_HOME"
cache = { mode = "symlink", path = "cache/downloads" }
"""


def batch(project: Path, names: list[str]) -> float:
    """Run our side once."""
    temporary = fresh(project)
    words = (*figures.INVOKE, "ci.run-batch", "--all", "--out", os.fspath(temporary / "out"))
    taken = figures.seconds(words, project, figures.job(temporary))
    outcomes = json.loads((temporary / "out" / "report.json").read_bytes())["outcomes"]
    expect("ci.run-batch", [entry["item"] for entry in outcomes if entry["status"] == "passed"], names)
    return taken


def loop(project: Path, names: list[str]) -> float:
    """Run the seed's side once, as a runner would: what stands in `${{ }}` is put into the script."""
    temporary = fresh(project)
    text = LOOP.replace("${{ needs.detect-changes.outputs.macos_items }}", json.dumps(names))
    script = temporary / "loop.sh"
    script.write_text(text.replace("${{ runner.temp }}", os.fspath(temporary)), encoding="utf-8")
    taken = figures.seconds(("bash", "-e", os.fspath(script)), project, figures.job(temporary))
    links = sorted(link for link in temporary.glob("tsuku-*/cache/downloads") if link.is_symlink())
    expect("the loop", [link.parts[-3].removeprefix("tsuku-") for link in links], names)
    return taken


def fresh(project: Path) -> Path:
    """Make a folder for one run, which stays until all have run.

    Where ext4 has no journal, new files take 40 times as long for minutes after others were deleted, on
    either side: see `recently_deleted` in https://github.com/torvalds/linux/blob/master/fs/ext4/ialloc.c.
    """
    folder = Path(tempfile.mkdtemp(dir=project.parent))
    os.sync()  # so that no run waits for what another wrote
    return folder


def expect(side: str, done: list[str], names: list[str]) -> None:
    if done != names:
        raise SystemExit(f"{side} did {len(done)} items, not the {len(names)} it was given")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000, help="items of one run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs (default: %(default)s)")
    options = parser.parse_args()
    missing = [name for name in ("jq", "bash", "git", "true") if not shutil.which(name)]
    if missing:
        print(f"batch overhead: needs {', '.join(missing)}, which is not on PATH", file=sys.stderr)
        return figures.UNABLE
    width = len(str(options.items))
    names = [f"item-{number:0{width}}" for number in range(options.items)]
    with tempfile.TemporaryDirectory(prefix="ci-tasks-bench-") as scratch:
        folder = Path(scratch).resolve()
        config = CONFIG % {"host": figures.host(), "items": json.dumps(names), "command": COMMAND}
        project = figures.repository(folder / "project", {"tasks.py": figures.TASKS, "ci.toml": config})
        (project / "tsuku").symlink_to(shutil.which("true") or "true")
        print(f"{options.items} no-op items; A: ci.run-batch --all, B: the seed's bash loop", flush=True)
        return figures.verdict(
            figures.compare(
                "batch overhead",
                lambda: batch(project, names),
                lambda: loop(project, names),
                runs=options.runs,
                bar=BAR,
            )
        )


if __name__ == "__main__":
    raise SystemExit(main())
