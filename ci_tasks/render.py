"""Pipeline text from templates; returns text, writes nothing.

A pipeline is first a value, made here from the configuration; a template then gives it its form. The text
is read back as YAML 1.2 and has to hold that very value, so no name can turn into something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci_tasks.config import FILE, REQUIREMENTS, Config, GitHub, Platform, Suite
from ci_tasks.errors import RenderError
from ci_tasks.patterns import glob

if TYPE_CHECKING:
    from jinja2 import Environment

ACTIONS = {
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
}
"""Commit and version of each action, read from the tags of its repository in August 2026."""

PLAN = ".ci-tasks/plan.json"
RESULTS = ".ci-tasks/results"
DETECT = "detect-changes"
GATE = "gate"
GATE_LIMIT = 5
"""Minutes for the job that says whether all went well."""
DETECT_LIMIT = 15
"""Minutes for the job that plans."""
REPORT_MINUTES = 10
"""Minutes that a job keeps for checkout and upload besides the step that runs the batch."""

TEMPLATES = {"github": "github.yml.j2"}

HEADER = "Made by `invoke {prefix}render` from {file}. Change that, and run it again."

_PLAIN = re.compile(r"[A-Za-z$./](?:[A-Za-z0-9 ./_=',()&|\"$!<>+@{}*-]*[A-Za-z0-9/}')\"*])?", re.ASCII)
"""Text that YAML takes as it stands, outside flow lists."""
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Words that one version of YAML or another takes for something else than a string."""

Model = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A pipeline file: where it belongs, relative to the project's root, and its whole text."""

    path: str
    text: str
    warnings: tuple[str, ...] = ()


def github(config: Config, suite: Suite, prefix: str) -> Rendered:
    """Render the workflow of one suite.

    :param prefix: what stands before a task's name on this project's command line, such as `ci.`
    :raises RenderError: when the suite cannot be rendered, or a template loses part of it
    """
    _check(config, suite)
    model = workflow(config, suite, prefix)
    template = TEMPLATES["github"]
    text = _text(
        templates(config),
        template,
        header=HEADER.format(prefix=prefix, file=FILE),
        workflow=model,
        versions={f"{action}@{commit}": version for action, (commit, version) in ACTIONS.items()},
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


def workflow(config: Config, suite: Suite, prefix: str) -> Model:
    """Return the workflow of a suite as GitHub will read it: the model that the template has to keep."""
    mac = [config.platform(name) for name in suite.platforms if name.startswith("darwin-")]
    other = [config.platform(name) for name in suite.platforms if not name.startswith("darwin-")]
    single = [platform for platform in mac if platform.strategy == "single"]
    spread = [platform for platform in mac if platform.strategy != "single"]
    jobs: Model = {DETECT: _detect(config, suite, prefix)}
    if other:
        jobs["test-linux"] = _matrix_job(config, suite, prefix, other, "linux")
    for platform in single:
        jobs[f"test-{platform.name}"] = _single_job(config, suite, prefix, platform, alone=len(mac) == 1)
    if spread:
        jobs["test-macos"] = _matrix_job(config, suite, prefix, spread, "macos")
    jobs[GATE] = _gate(config, suite, {key: job["if"] for key, job in jobs.items() if key != DETECT})
    return {
        "name": suite.name,
        "on": _triggers(config, suite),
        "permissions": {},
        "concurrency": {
            "group": "${{ github.workflow }}-${{ github.event.pull_request.number || github.sha }}",
            "cancel-in-progress": "${{ github.event_name == 'pull_request' }}",
        },
        "jobs": jobs,
    }


def _triggers(config: Config, suite: Suite) -> Model:
    """Start on the very patterns that select items; a fixed list without patterns starts always."""
    watched = [glob(pattern) for pattern in dict.fromkeys(suite.watched)]
    if suite.fixed and not (suite.triggers or suite.run_all):
        watched = []
    paths = (
        [*watched, *(f"!{glob(pattern)}" for pattern in suite.exclude), suite.workflow, FILE]
        if watched
        else []
    )
    filtered = {"paths": list(dict.fromkeys(paths))} if paths else {}
    return {
        "pull_request": filtered or None,
        "push": {"branches": list(config.github.branches), **filtered},
        "workflow_dispatch": None,
    }


def _uses(action: str, title: str, **values: object) -> Model:
    commit, _ = ACTIONS[action]
    step: Model = {"name": title, "uses": f"{action}@{commit}"}
    return (
        {**step, "with": {key.replace("_", "-"): value for key, value in values.items()}} if values else step
    )


def _prepared(config: GitHub, *, history: bool) -> list[Model]:
    """Return the steps that every job starts with."""
    depth = {"fetch_depth": 0} if history else {}
    return [
        _uses("actions/checkout", "Check out", persist_credentials=False, **depth),
        _uses("actions/setup-python", "Set up Python", python_version=config.python),
        {"name": "Install ci_tasks", "run": config.install},
    ]


def _detect(config: Config, suite: Suite, prefix: str) -> Model:
    mac = [config.platform(name) for name in suite.platforms if name.startswith("darwin-")]
    names = ["linux_matrix", "has_linux", "macos_items", "has_macos"]
    if len(mac) > 1:
        names.append("macos_platforms")
    if any(platform.strategy != "single" for platform in mac):
        names.append("macos_matrix")
    return {
        "name": "Detect changes",
        "runs-on": config.github.runs_on,
        "timeout-minutes": DETECT_LIMIT,
        "permissions": {"contents": "read"},
        "outputs": {name: f"${{{{ steps.plan.outputs.{name} }}}}" for name in names},
        "steps": [
            *_prepared(config.github, history=True),
            {"name": "Plan", "id": "plan", "run": f"exec invoke {prefix}plan --suite {suite.name} --publish"},
            _uses(
                "actions/upload-artifact",
                "Keep the plan for the jobs that follow",
                name=f"{suite.name}-plan",
                path=PLAN,
                include_hidden_files=True,
                if_no_files_found="error",
            ),
        ],
    }


def _gate(config: Config, suite: Suite, guards: Mapping[str, str]) -> Model:
    """Return the one job to require: red unless detection and every job that had to run have passed.

    :param guards: for each job that runs batches, the condition under which it has to run
    """
    steps = [
        {"name": "Planning has passed", "if": f"needs.{DETECT}.result != 'success'", "run": "exit 1"},
        *(
            {
                "name": f"{key} has passed, or had nothing to do",
                "if": f"needs.{key}.result != 'success' && (needs.{key}.result != 'skipped' || ({guard}))",
                "run": "exit 1",
            }
            for key, guard in guards.items()
        ),
    ]
    return {
        "name": f"{suite.name} gate",
        "needs": [DETECT, *guards],
        "if": "always()",
        "runs-on": config.github.runs_on,
        "timeout-minutes": GATE_LIMIT,
        "permissions": {},
        "steps": steps,
    }


def _single_job(config: Config, suite: Suite, prefix: str, platform: Platform, *, alone: bool) -> Model:
    guard = f"needs.{DETECT}.outputs.has_macos == 'true'"
    if not alone:
        guard += f" && contains(fromJSON(needs.{DETECT}.outputs.macos_platforms), '{platform.name}')"
    command = f"exec invoke {prefix}run-batch --arch {platform.name}"
    return {
        **_batch_job(config, f"macOS ({platform.name})", guard, _labels(platform)),
        "steps": _batch_steps(config, suite, command, {}, f"{suite.name}-{platform.name}"),
    }


def _matrix_job(
    config: Config, suite: Suite, prefix: str, platforms: Sequence[Platform], system: str
) -> Model:
    title = {"linux": "Linux", "macos": "macOS"}[system]
    slots = [config.pool(platform.pool).slots for platform in platforms if platform.pool]
    guard = f"needs.{DETECT}.outputs.has_{system} == 'true'"
    if system == "macos":
        guard += f" && fromJSON(needs.{DETECT}.outputs.macos_matrix).include[0] != null"
    title = f"{title} (${{{{ matrix.platform }}}}): ${{{{ matrix.name }}}}"
    chosen = {"PLATFORM": "${{ matrix.platform }}", "BATCH": "${{ matrix.batch }}"}
    command = f'exec invoke {prefix}run-batch --arch "$PLATFORM" --batch "$BATCH"'
    return {
        **_batch_job(config, title, guard, "${{ matrix.runs_on }}"),
        "strategy": {
            "fail-fast": False,
            **({"max-parallel": min(slots)} if slots else {}),
            "matrix": f"${{{{ fromJSON(needs.{DETECT}.outputs.{system}_matrix) }}}}",
        },
        "steps": _batch_steps(config, suite, command, chosen, "${{ matrix.batch }}"),
    }


def _labels(platform: Platform) -> str | list[str]:
    return platform.runs_on[0] if len(platform.runs_on) == 1 else list(platform.runs_on)


def _batch_job(config: Config, name: str, guard: str, runs_on: str | list[str]) -> Model:
    return {
        "name": name,
        "needs": DETECT,
        "if": guard,
        "runs-on": runs_on,
        "timeout-minutes": int(config.github.job_limit // 60),
        "permissions": {"contents": "read"},
    }


def _batch_steps(
    config: Config, suite: Suite, command: str, variables: Mapping[str, str], name: str
) -> list[Model]:
    """Return the steps of a job that runs a batch; `run` is one line that a cancel reaches, without a shell between."""
    limit = max(int(config.github.job_limit // 60) - REPORT_MINUTES, 1)
    variables = {**variables, **_passed(suite)}
    return [
        *_prepared(config.github, history=False),
        _uses(
            "actions/download-artifact",
            "Fetch the plan",
            name=f"{suite.name}-plan",
            path=str(Path(PLAN).parent),
        ),
        {
            "name": "Run the batch",
            "timeout-minutes": limit,
            **({"env": variables} if variables else {}),
            "run": f"{command} --plan {PLAN} --out {RESULTS}",
        },
        {
            **_uses(
                "actions/upload-artifact",
                "Keep the results",
                name=f"{name}-results",
                path=RESULTS,
                include_hidden_files=True,
                if_no_files_found="warn",
            ),
            "if": "always()",
        },
    ]


def _passed(suite: Suite) -> dict[str, str]:
    """Give the step the variables that the suite passes on: GitHub's own token, or secrets of the same names."""
    names = [name.removesuffix("?") for name in suite.pass_env if not name.endswith("*")]
    return {
        name: "${{ github.token }}" if name == "GITHUB_TOKEN" else f"${{{{ secrets.{name} }}}}"
        for name in names
    }


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
