"""Fourteen real change sets, each made into a repository and planned through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
FAMILIES = ("alpine", "arch", "debian", "rhel", "suse")
PLATFORMS = ("linux-amd64", "darwin-arm64", "darwin-amd64", *(f"linux-{family}-amd64" for family in FAMILIES))

CONFIG = (
    "\n".join(f'[platforms.{name}]\nruns-on = "x"' for name in PLATFORMS)
    + """
[suites.recipes]
include = ["recipes/**/*.toml", "internal/recipe/recipes/**/*.toml"]
command = "true {path}"
[suites.recipes.metadata]
os = "metadata.supported_os"
arch = "metadata.supported_arch"
except = "metadata.unsupported_platforms"
[suites.golden]
include = ["testdata/golden/plans/**/{name}/v{version}-{platform}.json"]
command = "true {path}"
"""
)


def content(path: str, metadata: dict[str, Any]) -> str:
    fields = metadata.get(path)
    if fields is None:
        return f"# {path}\n"
    comment = '# supported_os = ["plan9"]\n'  # what a grep would take for the field
    return (
        comment + "[metadata]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    )


def built(project: Project, case: dict[str, Any]) -> tuple[str, str]:
    """Make the two commits of a case, and a third on the base branch that a two-dot diff would see."""
    before, after = {}, {}
    for status, *paths in case["changes"]:
        if status in "MDRT":
            before[paths[0]] = f"old {paths[0]}\n" if status != "R" else content(paths[-1], case["metadata"])
        if status in "MART":
            after[paths[-1]] = content(paths[-1], case["metadata"])
    base = project.commit({"ci.toml": CONFIG, "untouched.toml": "x\n", **before})
    project.git("switch", "--quiet", "--create", "change")
    for status, *paths in case["changes"]:
        if status in "DR":
            (project.root / paths[0]).unlink()
    head = project.commit(after)
    project.git("switch", "--quiet", "main")
    moved = project.commit({"recipes/o/other-peoples.toml": "[metadata]\nname = 'other'\n"})
    assert moved != base
    return moved, head


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_real_change_is_planned_right(path: Path, project: Project) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    base, head = built(project, case)
    result = project.invoke("ci.plan", "--format", "json", "--base", base, "--head", head)
    assert result.code == 0, result.err
    recipes, golden = result.json()["suites"]
    expected = case["expected"]
    selected = {item["path"] for item in recipes["items"]} | {
        out["path"] for out in recipes["left_out"] if out["because"] != "deleted"
    }
    assert sorted(selected) == sorted(expected["recipes"])
    for platform in ("linux-amd64", "darwin-arm64"):
        names = [item["name"] for item in recipes["items"] if platform in item["platforms"]]
        assert sorted(names) == sorted(expected[platform])
    found: dict[str, list[str]] = {}
    for item in golden["items"]:
        for platform in item["platforms"]:
            found.setdefault(platform, []).append(item["path"])
    assert {platform: sorted(paths) for platform, paths in found.items()} == {
        platform: sorted(paths) for platform, paths in expected["golden"].items()
    }
    for suite in (recipes, golden):
        assert all(item["because"] for item in suite["items"] + suite["left_out"])


def test_all_fourteen_cases_are_here() -> None:
    assert len(CASES) == 14
