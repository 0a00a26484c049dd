"""Real repositories, and the real command line; nothing here can touch the developer's own home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOST = {"x86_64": "amd64", "aarch64": "arm64"}
PLATFORM = f"{os.uname().sysname.lower()}-{HOST.get(os.uname().machine, os.uname().machine)}"
OTHER = "darwin-arm64" if PLATFORM != "darwin-arm64" else "linux-amd64"
KEPT = (
    "PATH",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "NODE_EXTRA_CA_CERTS",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A git repository of a user of ours."""

    root: Path
    environ: Mapping[str, str]

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str] | None = None, message: str = "change") -> str:
        """Write files, commit everything, and return the full name of the commit."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "invoke", *arguments]

    def invoke(self, *arguments: str, environ: Mapping[str, str] | None = None, folder: str = ".") -> Result:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root / folder,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return Result(
            code=done.returncode,
            out=done.stdout.decode("utf-8", "replace"),
            err=done.stderr.decode("utf-8", "replace"),
        )

    def report(self, result: Result) -> Any:
        """Return the report that a run has printed the path of."""
        return json.loads(Path(result.out.strip().splitlines()[-1]).read_text(encoding="utf-8"))

    def statuses(self, result: Result) -> dict[str, str]:
        return {outcome["item"]: outcome["status"] for outcome in self.report(result)["outcomes"]}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a home, a temporary folder and a git configuration of its own, and no CI in it."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    settings = home / ".gitconfig"
    settings.write_text(
        '[user]\n name = Test\n email = test@example.org\n[init]\n defaultBranch = main\n[protocol "file"]\n allow = always\n',
        encoding="utf-8",
    )
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {
        **kept,
        "HOME": os.fspath(home),
        "TMPDIR": os.fspath(temporary),
        "GIT_CONFIG_GLOBAL": os.fspath(settings),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def project(tmp_path: Path, environ: dict[str, str]) -> Project:
    """Return a project with our tasks and no `ci.toml` yet, its first commit made."""
    root = tmp_path / "project"
    root.mkdir()
    made = Project(root=root, environ=environ)
    made.git("init", "--quiet")
    made.commit({"tasks.py": "from ci_tasks import ns\n\n__all__ = ['ns']\n"}, "first")
    return made


def toml(
    command: str | Sequence[str] = "true",
    *,
    items: Sequence[str] = ("one", "two"),
    more: str = "",
    top: str = "",
) -> str:
    """Return a `ci.toml` with one suite of fixed items for this machine and one more platform."""
    return f"""
{top}
[platforms.{PLATFORM}]
runs-on = "ubuntu-24.04"
[platforms.{OTHER}]
runs-on = "macos-15"
[suites.suite]
items = {json.dumps(list(items))}
command = {json.dumps(command if isinstance(command, str) else list(command))}
{more}
"""


RECIPES = f"""
[platforms.linux-amd64]
runs-on = "ubuntu-24.04"
[platforms.darwin-arm64]
runs-on = "macos-15"
[suites.recipes]
workflow = ".github/workflows/recipes.yml"
include = ["recipes/**/*.toml"]
exclude = ["recipes/discovery/**"]
run-all = ["**/*.go", "go.mod"]
command = {json.dumps([sys.executable, "-c", "import sys; print(sys.argv)", "{path}"])}
[suites.recipes.metadata]
os = "metadata.supported_os"
arch = "metadata.supported_arch"
except = "metadata.unsupported_platforms"
"""
"""A suite of files with metadata, as in the real project behind this one."""
