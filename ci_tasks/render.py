"""Pipeline text from templates; returns text, writes nothing.

A pipeline is first a value, made here from the configuration; a template then gives it its form. The text
is read back as YAML 1.2 and has to hold that very value, so no name can turn into something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci_tasks import github
from ci_tasks.errors import RenderError
from ci_tasks.settings import FILE, REQUIREMENTS, Config, Suite

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = {"github": "github.yml.j2"}

HEADER = "Made by `invoke {prefix}render` from {file}. Change that, and run it again."

_PLAIN = re.compile(r"[A-Za-z$./](?:[A-Za-z0-9 ./_=',()&|\"$!<>+@{}*-]*[A-Za-z0-9/}')\"*])?", re.ASCII)
"""Text that YAML takes as it stands, outside flow lists."""
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Words that one version of YAML or another takes for something else than a string."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A pipeline file: where it belongs, relative to the project's root, and its whole text."""

    path: str
    text: str
    warnings: tuple[str, ...] = ()


def workflow(config: Config, suite: Suite, prefix: str) -> Rendered:
    """Render the workflow of one suite.

    :param prefix: what stands before a task's name on this project's command line, such as `ci.`
    :raises RenderError: when the suite cannot be rendered, or a template loses part of it
    """
    _check(config, suite)
    model = github.workflow(config, suite, prefix)
    template = TEMPLATES["github"]
    text = _text(
        templates(config),
        template,
        header=HEADER.format(prefix=prefix, file=FILE),
        workflow=model,
        versions={f"{action}@{commit}": version for action, (commit, version) in github.ACTIONS.items()},
    )
    _compare(model, _read_back(text, template), template, exact=not config.templates)
    return Rendered(path=suite.workflow, text=text, warnings=tuple(_warnings(config, suite)))


def _warnings(config: Config, suite: Suite) -> Iterable[str]:
    """Yield why the jobs of a workflow would fail on GitHub, whatever was changed."""
    if not suite.command:
        yield f"suites.{suite.name} has no `command`: its jobs will stop with an error"
    if config.github.install.endswith(REQUIREMENTS) and not (config.root / REQUIREMENTS).exists():
        yield f"there is no {REQUIREMENTS} for the jobs to install ci_tasks from: write one, or set github.install"


def _check(config: Config, suite: Suite) -> None:
    bare = [name for name in suite.platforms if not config.platform(name).runs_on]
    if bare:
        raise RenderError(
            f"platforms.{bare[0]} has no `runs-on`, so GitHub cannot run it",
            hint='add the label of a runner, such as runs-on = "macos-15"',
        )


def _text(environment: Environment, template: str, **context: object) -> str:
    from jinja2 import TemplateError, TemplateSyntaxError  # noqa: PLC0415  # 0.05 s

    try:
        return environment.get_template(template).render(**context)
    except TemplateError as error:
        place = f"{error.name}, line {error.lineno}" if isinstance(error, TemplateSyntaxError) else template
        raise RenderError(f"{place}: {error}", hint="is it one of the project's own templates?") from None


def templates(config: Config) -> Environment:
    """Return the Jinja environment: a project's own templates win, file by file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  # 0.05 s

    folders = [shipped()]
    if config.templates:
        folders.insert(0, config.root / config.templates)
        if not folders[0].is_dir():
            raise RenderError(
                f"templates: there is no folder {folders[0]}", hint=f"make it, or correct {FILE}"
            )
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  # YAML, where every value goes through the `yaml` filter
        variable_start_string="[=",
        variable_end_string="=]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = scalar
    return environment


def shipped() -> Path:
    """Return the folder of our own templates, for a wheel and for a checkout alike."""
    beside = Path(__file__).with_name("templates")
    return beside if beside.is_dir() else Path(__file__).parents[1] / "templates"


def scalar(value: object) -> str:
    """Return a value as one YAML scalar or flow list: plain where every reader takes it for a string, else JSON.

    :raises RenderError: for text that is not Unicode, which no pipeline file can hold
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RenderError(f"{value!r} is not valid Unicode, so no pipeline file can hold it") from None
    return "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Escape what JSON allows in a string and YAML does not."""
    code = ord(letter)
    printable = 0x20 <= code < 0x7F or 0xA0 <= code < 0xFFFE or code > 0xFFFF  # noqa: PLR2004  # YAML 1.2, 5.1
    return letter if printable and code not in (0x2028, 0x2029, 0xFEFF) else f"\\u{code:04x}"


def _read_back(text: str, template: str) -> object:
    from ruamel.yaml import YAML  # noqa: PLC0415  # 0.03 s
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise RenderError(
            f"{template} renders text that is not YAML: {error}", hint="is it the project's own?"
        ) from None


def _compare(wanted: object, found: object, template: str, *, exact: bool) -> None:
    problem = next(iter(differences(wanted, found, exact=exact)), "")
    if problem:
        raise RenderError(
            f"{template} does not keep what it was given: {problem}",
            hint="every value needs the `yaml` filter, and every job and step its place",
        )


def differences(wanted: object, found: object, *, exact: bool, place: str = "") -> Iterable[str]:
    """Yield where a document is not its model. Unless `exact`, it may hold more keys and more steps."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        extra = [key for key in found if key not in wanted] if exact else []
        yield from (f"{place}.{key} was not asked for" for key in extra)
        for key, value in wanted.items():
            if key not in found:
                yield f"{place}.{key} is missing"
            else:
                yield from differences(value, found[key], exact=exact, place=f"{place}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and not exact:
        missing = (entry for entry in wanted if not _holds(found, entry))
        yield from (f"{place} lacks {entry!r}" for entry in missing)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, exact=exact, place=f"{place}[{index}]")
    elif wanted != found or type(wanted) is not type(found):
        yield f"{place} is {found!r}, not {wanted!r}"


def _holds(found: list[Any], wanted: object) -> bool:
    return any(not next(iter(differences(wanted, entry, exact=False)), "") for entry in found)


def is_ours(text: str) -> bool:
    """Tell whether a file was rendered by us: the line at its top says so."""
    return bool(re.match(r"# Made by `invoke \S*render` from ", text))


def check_root(root: Path) -> None:
    """Make sure that GitHub would read what is written below a project's root.

    :raises RenderError: when the root is a folder inside a repository
    """
    above = [folder for folder in root.parents if (folder / ".git").exists()]
    if above and not (root / ".git").exists():
        raise RenderError(
            f"{root} is not the root of its repository, and GitHub reads workflows only there",
            hint=f"move {FILE} and tasks.py to {above[0]}",
        )


def difference(old: str, rendered: Rendered) -> str:
    """Return a unified diff from the text of a file to what it should be."""
    lines = unified_diff(
        old.splitlines(keepends=True),
        rendered.text.splitlines(keepends=True),
        fromfile=rendered.path,
        tofile=f"{rendered.path} (rendered)",
    )
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )
