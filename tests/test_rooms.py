"""The structure of the package: imports point one way, and each outside library has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ci_tasks import errors, plan_document, report

PACKAGE = Path(__file__).parents[1] / "ci_tasks"

FLOORS = (
    {"errors"},
    {"reading", "patterns", "logs", "providers", "orphans"},
    {"settings", "process"},
    {"config", "items", "changes", "cache", "github", "journal"},
    {"metadata", "homes"},
    {"exclusions", "selection", "render"},
    {"plan", "report"},
    {"plan_document", "explanation", "machine"},
    {"batch", "console"},
    {"frame"},
    {"tasks"},
    {"__init__"},
)
"""Rooms from the ground up; a room uses its own floor and those below it."""

HOMES = {
    "git": {"changes"},
    "jinja2": {"render", "report"},
    "rtoml": {"metadata"},
    "ruamel": {"render", "metadata"},
    "rich": {"console"},
    "invoke": {"tasks", "frame"},
    "subprocess": {"process"},
    "signal": {"process", "orphans", "frame"},
    "tomllib": {"config"},
}
"""Libraries that only these rooms may know; the frame names them for exit codes."""


def rooms() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(room: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "ci_tasks":
            found |= {
                f"ci_tasks.{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def floor(room: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if room in names)


def test_every_room_has_its_floor() -> None:
    assert sorted(set().union(*FLOORS)) == rooms()


@pytest.mark.parametrize("room", rooms())
def test_imports_point_one_way(room: str) -> None:
    ours = {name.split(".")[1] for name in imported(room) if name.startswith("ci_tasks.")}
    assert [name for name in ours if floor(name) > floor(room)] == []


@pytest.mark.parametrize("room", rooms())
def test_a_library_is_used_in_its_own_room_only(room: str) -> None:
    outside = {name.split(".")[0] for name in imported(room)}
    assert [name for name in outside & set(HOMES) if room not in HOMES[name]] == []


@pytest.mark.parametrize("room", [room for room in rooms() if room not in ("tasks", "frame")])
def test_the_environment_is_read_by_the_tasks_alone(room: str) -> None:
    tree = ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {"environ", "getenv"} & {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert "exit" not in used


def test_listing_the_tasks_imports_nothing_costly() -> None:
    script = "import sys, ci_tasks; print(sorted(set(sys.modules) & {'git', 'jinja2', 'rich', 'ruamel.yaml', 'rtoml', 'tomllib', 'ctypes'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_words_are_these() -> None:
    assert (errors.PASSED, errors.FAILED, errors.USAGE, errors.BUG, errors.SIGNALLED) == (0, 1, 2, 3, 128)
    assert report.STATUSES == ("passed", "failed", "timed-out", "interrupted", "not-run")
    assert (plan_document.VERSION, report.VERSION) == (1, 1)
