"""A workflow of GitHub Actions as a value: the model that a template has to keep. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ci_tasks.patterns import glob
from ci_tasks.settings import FILE, Config, GitHub, Platform, Suite

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

Model = dict[str, Any]


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
    """Start on the very patterns that select items; a fixed list without patterns starts always.

    On GitHub the last pattern that matches a path decides, so what `exclude` takes away comes before what
    concerns every item.
    """
    always = suite.fixed and not (suite.triggers or suite.run_all)
    paths = [
        *map(glob, suite.include),
        *(f"!{glob(pattern)}" for pattern in suite.exclude),
        *map(glob, (*suite.run_all, *suite.triggers, *((suite.exclusions,) if suite.exclusions else ()))),
        suite.workflow,
        FILE,
    ]
    filtered = {} if always else {"paths": list(dict.fromkeys(paths))}
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
            path=str(PurePosixPath(PLAN).parent),
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
