"""Install one recipe of this tap into the current home, and verify it.

Needs nothing but the standard library; a recipe's own tools come from PyPI or npm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

TAP = Path(__file__).resolve().parent
REPOSITORY = TAP.parent.parent

PIP_WITH_PYTHON_OPTION = (22, 3)
"""The first pip that installs into another environment than its own (`pip --python`)."""

CACHE = "TAP_CACHE"
"""Names the folder that downloaded wheels are kept in; unset, nothing is kept."""

PIP_DOWNLOAD = ("--no-input", "--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off")
PIP_INSTALL = (*PIP_DOWNLOAD, "--no-compile")  # most of it never runs here
NPM_INSTALL = ("install", "--no-audit", "--no-fund", "--no-update-notifier")


class TapError(Exception):
    """Something the user can do something about."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        """Keep what happened apart from what to do about it."""
        super().__init__(message)
        self.hint = hint


class RecipeUnreadableError(TapError):
    """The recipe is missing, is not TOML, or has not the shape the README gives."""

    exit_code = 2


class ToolMissingError(TapError):
    """This machine lacks the program that would install."""


class InstallFailedError(TapError):
    """The installing program ran, and failed."""


class VerifyFailedError(TapError):
    """The tool is installed, but is not what the recipe promised."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One tool: what to install, and how to tell that it works."""

    name: str
    pypi: tuple[str, ...]
    npm: tuple[str, ...]
    command: tuple[str, ...]
    pattern: str
    """Plain text that the output of `command` must contain."""


def read(path: Path) -> Recipe:
    """Read a recipe, or raise `RecipeUnreadableError`."""
    try:
        recipe = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"cannot read the recipe `{path}`: {reason}"
        hint = f"the format is in `{TAP / 'README.md'}`"
        raise RecipeUnreadableError(message, hint=hint) from error
    return recipe


def parse(text: str) -> Recipe:
    """Make a recipe of TOML, or raise `ValueError` with the reason."""
    document = tomllib.loads(text)
    recipe = Recipe(
        name=_text(document, "metadata", "name"),
        pypi=_texts(document, "install", "pypi"),
        npm=_texts(document, "install", "npm"),
        command=_texts(document, "verify", "command"),
        pattern=_text(document, "verify", "pattern"),
    )
    # The name becomes a folder that is emptied first: it must not lead elsewhere.
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", recipe.name):
        raise ValueError(f"`metadata.name` is not a name: `{recipe.name}`")
    if bool(recipe.pypi) == bool(recipe.npm):
        raise ValueError("`install` needs either `pypi` or `npm`")
    if not recipe.command or "/" in recipe.command[0]:
        raise ValueError("`verify.command` must begin with the name of an installed command")
    return recipe


def _value(document: dict[str, object], table: str, key: str) -> object:
    values = document.get(table)
    return values.get(key) if isinstance(values, dict) else None


def _text(document: dict[str, object], table: str, key: str) -> str:
    value = _value(document, table, key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{table}.{key}` must be text")
    return value


def _texts(document: dict[str, object], table: str, key: str) -> tuple[str, ...]:
    """Give the list at a key, empty if the key is absent."""
    value = _value(document, table, key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"`{table}.{key}` must be a list of texts")
    return tuple(value)


def install(recipe: Recipe, prefix: Path) -> Path:
    """Install into an emptied prefix, and give the folder of the new commands."""
    if prefix.exists():
        shutil.rmtree(prefix)
    prefix.mkdir(parents=True)
    if recipe.npm:
        return install_npm(recipe.npm, prefix)
    return install_pypi(recipe.pypi, prefix)


def install_pypi(requirements: tuple[str, ...], prefix: Path) -> Path:
    """Install into a virtual environment, with this Python's pip if it can.

    A pip of its own in each environment would cost seconds, so that is the last resort.
    """
    bin_folder = prefix / "bin"
    python = str(bin_folder / "python")
    if pip_version() >= PIP_WITH_PYTHON_OPTION:
        venv.create(prefix, symlinks=True, with_pip=False)
        pip: tuple[str, ...] = (sys.executable, "-m", "pip", "--python", python)
    else:
        create_with_pip(prefix)
        pip = (python, "-m", "pip")
    cache = os.environ.get(CACHE)
    if cache:  # pip's own cache keeps nothing where a mirror drops the headers that allow it
        run(*pip, "download", *PIP_DOWNLOAD, "--dest", cache, *requirements)
        run(*pip, "install", *PIP_INSTALL, "--no-index", "--find-links", cache, *requirements)
    else:
        run(*pip, "install", *PIP_INSTALL, *requirements)
    return bin_folder


def pip_version() -> tuple[int, ...]:
    """Give major and minor version of this Python's pip, or nothing if it has none."""
    done = subprocess.run(
        (sys.executable, "-m", "pip", "--version"),
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    found = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    return tuple(int(number) for number in found.groups()) if found else ()


def create_with_pip(prefix: Path) -> None:
    """Create a virtual environment that has a pip, or say what this Python lacks."""
    try:
        venv.create(prefix, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        message = f"`{sys.executable}` has neither pip 22.3 or newer nor `ensurepip`"
        hint = "use a Python with pip, as in a virtual environment"
        raise ToolMissingError(message, hint=hint) from error


def install_npm(packages: tuple[str, ...], prefix: Path) -> Path:
    """Install below the prefix with the npm on PATH."""
    npm = shutil.which("npm")
    if npm is None:
        raise ToolMissingError("`npm` is not on this machine", hint="install Node.js, which brings npm")
    run(npm, *NPM_INSTALL, "--prefix", str(prefix), *packages)
    return prefix / "node_modules" / ".bin"


def run(*command: str) -> None:
    """Run an installing program, its output passed on, or raise `InstallFailedError`."""
    print(f"$ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        message = f"the installation failed with exit code {done.returncode}"
        hint = f"to see it again: {shlex.join(command)}"
        raise InstallFailedError(message, hint=hint)


def verify(recipe: Recipe, bin_folder: Path) -> None:
    """Run the new command and look for the pattern, or raise `VerifyFailedError`."""
    command = (str(bin_folder / recipe.command[0]), *recipe.command[1:])
    path = os.environ.get("PATH", os.defpath)
    hint = f"to see it again: {shlex.join(command)}"
    print(f"$ {shlex.join(command)}", flush=True)
    try:
        done = subprocess.run(
            command,
            check=False,
            encoding="utf-8",
            env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{path}"},
            errors="replace",
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
    except OSError as error:
        raise VerifyFailedError(f"cannot run `{recipe.command[0]}`: {error.strerror}", hint=hint) from error
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise VerifyFailedError(f"`{recipe.command[0]}` failed with exit code {done.returncode}", hint=hint)
    if recipe.pattern not in done.stdout:
        raise VerifyFailedError(
            f"`{recipe.pattern}` is not in the output of `{recipe.command[0]}`", hint=hint
        )


def install_command(path: Path) -> None:
    """Install and verify one recipe below the current home."""
    recipe = read(path)
    prefix = Path.home() / ".tap" / recipe.name
    bin_folder = install(recipe, prefix)
    verify(recipe, bin_folder)
    print(f"installed {' '.join(recipe.pypi + recipe.npm)} in {prefix}")


def list_npm_command() -> None:
    """Print a line of JSON for each npm recipe, if this machine has npm."""
    if shutil.which("npm") is None:
        print("npm is not on this machine, so its recipes are left out", file=sys.stderr)
        return
    for path in sorted(TAP.glob("npm/*.toml")):
        entry = {"name": read(path).name, "path": path.relative_to(REPOSITORY).as_posix()}
        print(json.dumps(entry))


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="tap.py", description=__doc__)
    commands = top.add_subparsers(dest="subcommand", required=True)
    one = commands.add_parser("install", help="install one recipe into the current home")
    one.add_argument("recipe", type=Path, help="a recipe's TOML file")
    commands.add_parser("list-npm", help="list the npm recipes as JSON, one a line")
    return top


def main() -> int:
    """Run one subcommand: 0 if well, 1 if it failed, 2 if it could not be understood."""
    arguments = parser().parse_args()
    try:
        if arguments.subcommand == "install":
            install_command(arguments.recipe)
        else:
            list_npm_command()
    except TapError as error:
        print(f"error: {error}\n\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
