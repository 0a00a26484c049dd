"""What we render, before judges and in a runner that we did not write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, Result
from ruamel.yaml import YAML

from ci_tasks import config, github, render

pytestmark = pytest.mark.real

DATA = Path(__file__).parent / "data"
SUITES = ("recipes", "golden", "integration", "essentials")


def tool(name: str) -> str:
    """Return the path of a tool that came with this environment; without it, skip, or fail where CI promised it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing, and under CI=true it has to be here")
    if not found:
        pytest.skip(f"needs {name}: tox -e real installs it")
    return found


def run(*words: str | os.PathLike[str]) -> tuple[int, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def zizmor(path: Path) -> tuple[int, str]:
    return run(tool("zizmor"), "--offline", "--strict-collection", "--no-progress", "--no-config", path)


def schema(path: Path) -> tuple[int, str]:
    return run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path)


def yamllint(path: Path) -> tuple[int, str]:
    rules = "{extends: default, rules: {line-length: disable, document-start: disable, truthy: {check-keys: false}}}"
    return run(tool("yamllint"), "--strict", "-d", rules, path)


def shellcheck(path: Path) -> tuple[int, str]:
    workflow = YAML(typ="safe", pure=True).load(path)
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    script = path.with_suffix(".sh")
    for line in lines:
        script.write_text(f"#!/usr/bin/env bash\n{line}\n", encoding="utf-8")
        code, text = run(tool("shellcheck"), script)
        if code:
            return code, text
    return 0, ""


Judge = Callable[[Path], tuple[int, str]]
BROKEN: list[tuple[Judge, str, str, str]] = [
    (zizmor, "run: exec invoke", "run: echo ${{ github.head_ref }}; exec invoke", "template-injection"),
    (
        zizmor,
        f"actions/checkout@{github.ACTIONS['actions/checkout'][0]}",
        "actions/checkout@v7",
        "unpinned-uses",
    ),
    (schema, "runs-on:", "runs-no:", "runs-on"),
    (yamllint, "      - name:", "       - name:", "indentation"),
    (shellcheck, '"$PLATFORM"', "$PLATFORM", "SC2086"),
]


@pytest.mark.parametrize("judge", [zizmor, schema, yamllint, shellcheck])
@pytest.mark.parametrize("suite", SUITES)
def test_no_judge_finds_anything(judge: Judge, suite: str, tmp_path: Path) -> None:
    read = config.load(DATA / "tsuku.ci.toml")
    path = tmp_path / "workflow.yml"
    path.write_text(render.workflow(read, read.suite(suite), "ci.").text, encoding="utf-8")
    code, text = judge(path)
    assert code == 0, text


@pytest.mark.parametrize(("judge", "old", "new", "finding"), BROKEN)
def test_a_judge_finds_what_is_broken(judge: Judge, old: str, new: str, finding: str, tmp_path: Path) -> None:
    read = config.load(DATA / "tsuku.ci.toml")
    good = render.workflow(read, read.suite("recipes"), "ci.").text
    assert old in good
    path = tmp_path / "workflow.yml"
    path.write_text(good.replace(old, new), encoding="utf-8")
    code, text = judge(path)
    assert code != 0
    assert finding in text


STAND_INS = {
    "actions/setup-python": "python3 --version",
    "actions/upload-artifact": 'mkdir -p "$STORE/$NAME" && cp -R "$WHERE/." "$STORE/$NAME/" 2>/dev/null || cp "$WHERE" "$STORE/$NAME/"',
    "actions/download-artifact": 'mkdir -p "$WHERE" && cp -R "$STORE/$NAME/." "$WHERE/"',
}
"""Composite actions that do on this machine what the real ones do on GitHub's; checkout is the runner's own."""

CONFIG = f"""
[platforms.linux-amd64]
runs-on = "ubuntu-24.04"
[platforms.darwin-arm64]
runs-on = "macos-15"
[github]
install = "invoke --version"
[suites.recipes]
workflow = ".github/workflows/recipes.yml"
include = ["recipes/**/*.toml"]
run-all = ["tool.py"]
command = [{json.dumps(sys.executable)}, "tool.py", "{{path}}"]
timeout = "2s"
[suites.recipes.metadata]
os = "metadata.supported_os"
"""

TOOL = """
import sys, time
print("tool ran for", sys.argv[1], flush=True)
if "hangs" in sys.argv[1]: time.sleep(60)
sys.exit("bad" in sys.argv[1])
"""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """`act`, running the rendered workflow on this machine, in its own clean checkout."""

    project: Project
    folder: Path

    def action(self, name: str) -> str:
        """Make the stand-in of an action as a local repository, and return act's flag for it."""
        path = self.folder / name.replace("/", "-")
        path.mkdir()
        inputs = "".join(
            f"  {key}: {{required: false}}\n"
            for key in ("name", "path", "python-version", "include-hidden-files", "if-no-files-found")
        )
        step = {
            "run": STAND_INS[name],
            "shell": "bash",
            "env": {"NAME": "${{ inputs.name }}", "WHERE": "${{ inputs.path }}"},
        }
        text = f"name: stand-in for {name}\ninputs:\n{inputs}runs:\n  using: composite\n  steps: {json.dumps([step])}\n"
        (path / "action.yml").write_text(text, encoding="utf-8")
        for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "stand-in"]):
            subprocess.run(["git", *words], cwd=path, env=dict(self.project.environ), check=True)
        return f"--local-repository={name}@{github.ACTIONS[name][0]}={path}"

    def push(self) -> Result:
        """Run the workflow as a push would."""
        store = self.folder / "store"
        store.mkdir(parents=True)
        environ = {
            **self.project.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{self.project.environ['PATH']}",
        }
        words = [
            tool("act"), "push", "-P", "ubuntu-24.04=-self-hosted", "-P", "macos-15=-self-hosted",
            "--env", f"STORE={store}", "--env", "CI_TASKS_INSIST=1", "--action-cache-path", str(self.folder / "cache"),
            *map(self.action, STAND_INS),
        ]  # fmt: skip
        done = subprocess.run(
            words,
            cwd=self.project.root,
            env=environ,
            capture_output=True,
            check=False,
            text=True,
            timeout=300,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr)

    def reports(self) -> dict[str, Any]:
        found = (self.folder / "store").glob("*-results/report.json")
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}


def gate(result: Result) -> str:
    """Return how the gate ended, in act's own words."""
    (last,) = [line for line in result.out.splitlines() if "recipes gate" in line and "Job " in line]
    return last.rpartition("Job ")[2].strip()


def statuses(report: Any) -> dict[str, str]:
    return {outcome["item"]: outcome["status"] for outcome in report["outcomes"]}


@pytest.fixture
def runner(project: Project, tmp_path: Path) -> Runner:
    recipes = {f"recipes/{letter}.toml": "[metadata]\n" for letter in "abc"}
    project.commit({"ci.toml": CONFIG, "tool.py": TOOL, **recipes})
    assert project.invoke("ci.render").code == 0
    project.commit()
    (tmp_path / "runner").mkdir()
    return Runner(project=project, folder=tmp_path / "runner")


def test_a_change_is_detected_and_run_on_both_platforms_and_a_failure_is_red(runner: Runner) -> None:
    only_mac = "[metadata]\nsupported_os = ['darwin']\n"
    runner.project.commit(
        {
            "recipes/a.toml": "[metadata]\n# changed\n",
            "recipes/bad.toml": only_mac,
            "recipes/it's $(x).toml": only_mac,
            "recipes/zz.toml": only_mac,
        }
    )
    result = runner.push()
    assert result.code != 0
    assert gate(result) == "failed"
    reports = runner.reports()
    assert set(reports) == {"recipes-linux-amd64-1-results", "recipes-darwin-arm64-results"}
    assert statuses(reports["recipes-linux-amd64-1-results"]) == {"a": "passed"}
    assert statuses(reports["recipes-darwin-arm64-results"]) == {
        "a": "passed",
        "bad": "failed",
        "it's $(x)": "passed",
        "zz": "passed",
    }
    assert "Job failed" in result.out
    assert "::error::" in result.out


def test_an_item_that_hangs_is_ended_and_the_rest_still_runs(runner: Runner) -> None:
    runner.project.commit(
        {
            "recipes/hangs.toml": "[metadata]\nsupported_os = ['darwin']\n",
            "recipes/last.toml": "[metadata]\nsupported_os = ['darwin']\n",
        }
    )
    assert runner.push().code != 0
    assert statuses(runner.reports()["recipes-darwin-arm64-results"]) == {
        "hangs": "timed-out",
        "last": "passed",
    }


def test_a_change_that_passes_is_green(runner: Runner) -> None:
    runner.project.commit({"tool.py": TOOL + "# changed\n"})
    result = runner.push()
    assert result.code == 0, result.out + result.err
    assert gate(result) == "succeeded"
    reports = runner.reports()
    assert statuses(reports["recipes-darwin-arm64-results"]) == {"a": "passed", "b": "passed", "c": "passed"}
    assert len(reports) == 4


def test_nothing_changed_is_a_clean_skip(runner: Runner) -> None:
    runner.project.commit({"docs.md": "x"})
    result = runner.push()
    assert result.code == 0, result.out + result.err
    assert gate(result) == "succeeded"
    assert runner.reports() == {}
    assert "Run the batch" not in result.out


def test_a_detection_that_fails_is_red_and_runs_nothing(runner: Runner) -> None:
    runner.project.commit({"ci.toml": CONFIG + "\n[nonsense]\n"})
    result = runner.push()
    assert result.code != 0
    assert gate(result) == "failed"
    assert "nonsense: unknown key" in result.out
    assert runner.reports() == {}
