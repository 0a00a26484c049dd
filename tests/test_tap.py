"""The main job of this repository on real input: tools from PyPI, each in a home of its own, behind one cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PLATFORM, Project

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tap(tmp_path: Path, environ: dict[str, str]) -> Project:
    """Return a clone of this repository as it stands, uncommitted files included."""
    root = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    made = Project(root=root, environ=environ)
    made.git("init", "--quiet")
    made.commit()
    made.commit(message="one more, so that there is something to compare with")
    return made


def test_tools_are_installed_and_the_second_takes_from_the_cache_what_the_first_brought(tap: Project) -> None:
    result = tap.invoke(
        "ci.run-batch", "--item", "pycodestyle", "--item", "flake8", "--item", "isort", "--suite", "tap"
    )
    assert result.code == 0, result.err
    report = tap.report(result)
    assert report["platform"] == PLATFORM
    added = {outcome["item"]: outcome["cache_bytes_added"] for outcome in report["outcomes"]}
    assert added["flake8"] > 0
    assert added["pycodestyle"] == 0, "flake8 ran first and needs it too"
    reused = {outcome["item"]: outcome["cache_bytes_reused"] for outcome in report["outcomes"]}
    assert reused["pycodestyle"] is None or reused["pycodestyle"] > 0
    assert report["cache"]["bytes_after"] >= sum(added.values()) > 0


def test_a_change_to_one_recipe_plans_and_runs_that_one_alone(tap: Project) -> None:
    recipe = tap.root / "examples/tap/recipes/c/codespell.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    planned = tap.invoke("ci.plan", "--format", "json", "--arch", "host").json()
    tap_suite = next(suite for suite in planned["suites"] if suite["suite"] == "tap")
    assert [item["name"] for item in tap_suite["items"]] == ["codespell"]
    result = tap.invoke("ci.run-batch")
    assert result.code == 0, result.err
    assert tap.statuses(result) == {"codespell": "passed"}


def test_a_recipe_that_is_broken_is_red_after_the_others_ran(tap: Project) -> None:
    recipe = tap.root / "examples/tap/recipes/i/isort.toml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace("isort==", "isort==0.0.0.dev"), encoding="utf-8"
    )
    result = tap.invoke("ci.run-batch", "--item", "isort", "--item", "pycodestyle")
    assert result.code == 1
    assert tap.statuses(result) == {"isort": "failed", "pycodestyle": "passed"}


def test_npm_tools_are_listed_where_npm_is_and_nowhere_else(tap: Project, tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("needs npm, which comes with Node.js")
    result = tap.invoke("ci.run-batch", "--suite", "tap-npm", "--item", "semver")
    assert result.code == 0, result.err
    without = tmp_path / "bin"
    without.mkdir()
    for name, path in (("git", shutil.which("git")), ("python3", sys.executable)):
        (without / name).symlink_to(str(path))
    listed = tap.invoke("ci.plan", "--suite", "tap-npm", "--all", environ={"PATH": str(without)})
    assert listed.code == 0, listed.err
    assert "tap-npm: 0 of 0 items selected" in listed.out
    assert "npm is not on this machine" in listed.err


def test_items_that_misbehave_harm_nobody(tap: Project) -> None:
    result = tap.invoke("ci.run-batch", "--suite", "misbehaving", "--all")
    assert result.code == 1
    assert tap.statuses(result) == {
        "exits-nonzero": "failed",
        "floods-output": "passed",
        "hangs": "timed-out",
        "ignores-sigterm": "timed-out",
        "killed-by-signal": "failed",
        "leaves-a-process": "passed",
        "prints-commands": "passed",
        "reads-stdin": "passed",
        "well-behaved": "passed",
    }


def test_the_misbehaving_do_not_run_by_default(tap: Project) -> None:
    planned = tap.invoke("ci.plan", "--all", "--format", "json").json()
    suites = {suite["suite"]: len(suite["items"]) for suite in planned["suites"]}
    assert set(suites) == {"tap", "tap-npm"}
    assert suites["tap"] >= 15
