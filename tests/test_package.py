"""The package as people install it: a wheel, an editable checkout, and a checkout that shadows a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import RECIPES, Project

ROOT = Path(__file__).parents[1]
DEPENDENCIES = (
    "import git, invoke, jinja2, rich, ruamel.yaml; import sysconfig; print(sysconfig.get_paths()['purelib'])"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, by the build back end itself, from a copy of what git would ship."""
    folder = tmp_path_factory.mktemp("wheel")
    script = (
        f"import os, hatchling.build as b; os.chdir({str(ROOT)!r}); print(b.build_wheel({str(folder)!r}))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_its_templates_and_its_schema(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"ci_tasks/templates/github.yml.j2", "ci_tasks/ci.schema.json", "ci_tasks/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "examples", "templates", "benchmarks"))]
    shipped = {name.removeprefix("ci_tasks/templates/") for name in names if name.endswith(".j2")}
    assert shipped == {path.name for path in (ROOT / "templates").glob("*.j2")}


def installed(folder: Path, package: Path, *, editable: bool = False) -> Path:
    """Install into a new environment that borrows this one's dependencies, and return its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    borrowed = subprocess.run(
        [sys.executable, "-c", DEPENDENCIES], check=True, capture_output=True, text=True
    ).stdout
    flags = ["--ignore-installed", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    if editable:
        flags += ["--no-build-isolation", "--editable"]
    environ = {**os.environ, "PYTHONPATH": borrowed.strip()}
    done = subprocess.run(
        [python, "-m", "pip", "install", *flags, package],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    paths = next((folder / "lib").glob("python*/site-packages"))
    (paths / "borrowed.pth").write_text(borrowed, encoding="utf-8")
    return python


def rendered(python: Path, project: Project) -> str:
    """Render in a project, with that Python, away from our own checkout."""
    project.commit({"ci.toml": RECIPES})
    (project.root / ".github/workflows/recipes.yml").unlink(missing_ok=True)
    done = subprocess.run(
        [python, "-P", "-m", "invoke", "ci.render"], cwd=project.root, env=dict(project.environ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [python, "-c", "import ci_tasks; print(ci_tasks.__file__)"], cwd=project.root, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert (project.root / ".github/workflows/recipes.yml").stat().st_size > 1000
    return where.strip()


def test_a_wheel_renders_away_from_the_checkout(wheel: Path, project: Project, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", wheel)
    assert str(tmp_path / "venv") in rendered(python, project)


def test_an_editable_install_renders(project: Project, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", ROOT, editable=True)
    assert rendered(python, project) == str(ROOT / "ci_tasks/__init__.py")


def test_a_wheel_shadowed_by_the_checkout_renders(wheel: Path, project: Project, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", wheel)
    done = subprocess.run(
        [python, "-c", "import ci_tasks.render as r; print(r.shipped())"], cwd=ROOT, check=True,
        capture_output=True, text=True, env=dict(project.environ),
    )  # fmt: skip
    assert done.stdout.strip() == str(ROOT / "templates")
