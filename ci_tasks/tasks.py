"""The `ci.*` tasks: read arguments, make a call or two, print, choose the exit."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ci_tasks import errors, frame

if TYPE_CHECKING:
    from ci_tasks.batch import Work
    from ci_tasks.plan import Plan
    from ci_tasks.providers import Base, Provider
    from ci_tasks.settings import Config, Suite

MOST_JOBS = 65
"""One more than the items that may run at the same time: each takes file descriptors, and macOS gives few."""

INSIST = "CI_TASKS_INSIST"
"""Set to run a batch for another platform, as `--insist` does."""


@task(
    help={
        "base": "revision to compare with; the merge base with it counts (default: the provider's, else origin/HEAD)",
        "head": "newer revision (default: the work tree, with uncommitted and untracked files)",
        "suite": "plan this suite only; can be given several times",
        "arch": "show this platform only, such as darwin-arm64, or host",
        "all": "select every item, whatever changed",
        "format": "text, or json for the plan document",
        "publish": "hand the result to the CI provider: outputs and a plan file",
    },
    iterable=["suite"],
    auto_shortflags=False,
)
@frame.translated
def plan(
    _context: Context,
    base: str | None = None,
    head: str | None = None,
    suite: Sequence[str] | None = None,
    arch: str = "",
    all: bool = False,  # noqa: A002  # the name of the flag
    format: str = "text",  # noqa: A002  # likewise
    publish: bool = False,
) -> None:
    """Decide what runs where, and why."""
    gc.disable()  # a plan makes many values and no cycles; looking for some would cost a tenth of the time
    if format not in ("text", "json"):
        raise errors.CiTasksError(f"--format is text or json, not {format!r}")
    config = _config()
    made = _planned(config, suite or (), base, head, everything=all)
    if arch:
        made = _only(config, made, arch)
    _warn(made)
    if publish:
        _publish(config, made)
    sys.stdout.write(_text(made) if format == "text" else _document(made))
    gc.freeze()  # all of it lives until the end, which need not look for cycles either
    gc.enable()


def _only(config: Config, made: Plan, arch: str) -> Plan:
    from ci_tasks import machine  # noqa: PLC0415  # only where it is asked for
    from ci_tasks import plan as planning  # noqa: PLC0415

    return planning.only(made, machine.fitting(config, arch))


def _text(made: Plan) -> str:
    from ci_tasks import explanation  # noqa: PLC0415  # likewise

    return frame.shown(explanation.as_text(made))


def _document(made: Plan) -> str:
    from ci_tasks import plan_document  # noqa: PLC0415  # likewise

    return plan_document.as_json(made)


@task(
    help={
        "check": "write nothing; exit 1 with a diff when a file is not what would be rendered",
        "suite": "render this suite only; can be given several times",
        "target": "github (the default)",
    },
    iterable=["suite"],
    auto_shortflags=False,
)
@frame.translated
def render(
    _context: Context, check: bool = False, suite: Sequence[str] | None = None, target: str = "github"
) -> None:
    """Write the pipelines, or check that they are up to date."""
    from ci_tasks import journal  # noqa: PLC0415  # `invoke --list` does without
    from ci_tasks import render as rendering  # noqa: PLC0415

    if target != "github":
        raise errors.CiTasksError(f"--target is github, not {target!r}", hint="Buildkite is not rendered yet")
    config = _config()
    rendering.check_root(config.root)
    chosen = [entry for entry in _suites(config, suite or (), every=True) if entry.workflow]
    if not chosen:
        raise errors.ConfigError(
            "no suite has a `workflow`", hint='add workflow = ".github/workflows/NAME.yml"'
        )
    files = [rendering.workflow(config, entry, _prefix("render")) for entry in chosen]
    old = {rendered.path: _present(config.root / rendered.path) for rendered in files}
    foreign = [path for path, text in old.items() if text and not rendering.is_ours(text)]
    if foreign:
        raise errors.RenderError(
            f"{', '.join(foreign)} was not made by ci.render, so it is left alone",
            hint="move it away first, or give the suite another `workflow`",
        )
    stale = [rendered for rendered in files if rendered.text != old[rendered.path]]
    for rendered in files:
        for warning in rendered.warnings:
            frame.say(f"warning: {warning}")
        if rendered not in stale:
            frame.say(f"up to date: {rendered.path}")
        elif check:
            sys.stdout.write(frame.shown(rendering.difference(old[rendered.path], rendered)))
            frame.say(f"stale: {rendered.path}")
        else:
            journal.replace(config.root / rendered.path, rendered.text)
            frame.say(f"written: {rendered.path}")
    if check and stale:
        frame.complain(
            "rendered files are stale", f"run `invoke {_prefix('render')}render` and commit the result"
        )
        raise Exit(code=errors.FAILED)


@task(
    name="run-batch",
    help={
        "arch": "platform to run for, such as darwin-arm64; host (the default) is this machine",
        "item": "run this item, by name or path, whatever changed; can be given several times",
        "suite": "run this suite only; can be given several times (default: all that are not `default = false`)",
        "plan": "run what this plan document says, rather than what the diff selects",
        "batch": "run this batch of the plan only",
        "base": "revision to compare with (default: the provider's, else origin/HEAD)",
        "all": "run every item, whatever changed",
        "jobs": "items to run at the same time (default: 1)",
        "keep-homes": "keep the homes of items that passed too",
        "out": "folder for report.json, journal.jsonl and logs/ (default: a new one in .ci-tasks/runs)",
        "insist": "run although this machine is another platform",
    },
    iterable=["item", "suite"],
    auto_shortflags=False,
)
@frame.translated
def run_batch(
    _context: Context,
    arch: str = "host",
    item: Sequence[str] | None = None,
    suite: Sequence[str] | None = None,
    plan: str = "",
    batch: str = "",
    base: str | None = None,
    all: bool = False,  # noqa: A002  # the name of the flag
    jobs: str = "1",
    keep_homes: bool = False,
    out: str = "",
    insist: bool = False,
) -> None:
    """Run every item of a batch in a home of its own, whatever the others do."""
    from ci_tasks import batch as batches  # noqa: PLC0415  # `invoke --list` does without
    from ci_tasks import journal, machine  # noqa: PLC0415

    if not jobs.isdecimal() or not 0 < int(jobs) < MOST_JOBS:
        raise errors.CiTasksError(f"--jobs is a whole number from 1 to {MOST_JOBS - 1}, not {jobs!r}")
    if plan and (base is not None or all):
        raise errors.CiTasksError("--plan says what runs, so --base and --all have no part in it")
    config = _config()
    platform = machine.fitting(config, arch)
    if not insist and not os.environ.get(INSIST):
        machine.check(platform)
    names = suite or ()
    if plan:
        made = _read_plan(config, plan)
    else:
        made = _planned(config, names, base, None, everything=all or bool(item), platform=platform)
    work = _work(config, made, platform, batch, item or (), _suites(config, names, every=bool(plan)))
    _warn(made)
    _announce(made, platform, nothing=not work, asked_for=bool(all or item or plan))
    if not work:
        return
    provider = _provider()
    options = batches.Options(
        platform=platform,
        out=Path(out).resolve() if out else config.root / journal.STATE / "runs" / _new_name(),
        environ=dict(os.environ),
        host=machine.host(provider),
        base=made.base,
        head=made.head,
        jobs=int(jobs),
        keep_homes=keep_homes,
    )
    _run(config, work, options, provider)


def _read_plan(config: Config, path: str) -> Plan:
    from ci_tasks import changes, plan_document  # noqa: PLC0415  # `invoke --list` does without

    made = plan_document.from_json(_read(Path(path)), path)
    here = changes.Repository(config.root).resolve("HEAD")
    if made.head != here:
        raise errors.PlanError(
            f"{path} was made for {made.head[:12]}, and {here[:12]} is checked out here",
            hint="make the plan again, or check that commit out",
        )
    return made


def _work(
    config: Config, made: Plan, platform: str, batch: str, names: Sequence[str], suites: Sequence[Suite]
) -> list[Work]:
    """Return the items of a plan that are to run here, in order."""
    from ci_tasks import plan as planning  # noqa: PLC0415  # `invoke --list` does without
    from ci_tasks.batch import Work  # noqa: PLC0415

    chosen = planning.chosen(planning.checked(made, names, platform), platform, batch)
    if names:
        chosen = planning.of_items(chosen, names)
    return [
        Work(suite=config.suite(entry.suite), item=item)
        for entry in chosen
        if config.suite(entry.suite) in suites
        for item in entry.items
    ]


def _announce(made: Plan, platform: str, *, nothing: bool, asked_for: bool) -> None:
    """Say what is about to run, or why nothing is."""
    from ci_tasks import explanation  # noqa: PLC0415  # `invoke --list` does without
    from ci_tasks import plan as planning  # noqa: PLC0415

    if nothing:
        frame.say(f"nothing to run on {platform}: {explanation.nothing(made)}")
        return
    if not asked_for:
        frame.say(explanation.compared(made))
        left = len(planning.only(made, platform).left_out)
        why = f"`invoke {_prefix('run-batch')}plan --arch {platform}` says why"
        if left:
            frame.say(f"{left} left out on {platform}: {why}")


@task(
    positional=["item"],
    help={
        "item": "name or path of an item",
        "base": "revision to compare with, as for ci.plan",
        "head": "newer revision, as for ci.plan",
        "suite": "look in this suite only; can be given several times",
    },
    iterable=["suite"],
    auto_shortflags=False,
)
@frame.translated
def explain(
    _context: Context,
    item: str,
    base: str | None = None,
    head: str | None = None,
    suite: Sequence[str] | None = None,
) -> None:
    """Say why an item is, or is not, in the plan: file, rule, platform, job."""
    from ci_tasks import explanation  # noqa: PLC0415  # `invoke --list` does without

    config = _config()
    names = [entry.name for entry in _suites(config, suite or (), every=True)]
    now = _planned(config, names, base, head, everything=False)
    whole = _planned(config, names, base, head, everything=True)
    sys.stdout.write(frame.shown(explanation.explained(now, whole, item)))


def _run(config: Config, work: Sequence[Any], options: Any, provider: Provider) -> None:
    """Run the batch, show its summary, and exit by its report."""
    from ci_tasks import batch, console, report  # noqa: PLC0415  # `invoke --list` does without

    live = sys.stderr.isatty() and not provider.variable and os.environ.get("TERM") != "dumb"
    colour = console.colours(sys.stderr, os.environ, provider)
    names = [entry.item.name for entry in work]
    audience = console.Console(sys.stderr, provider, names, colour=colour, live=live, jobs=options.jobs)
    try:
        done = batch.run(config, work, options, audience)
    finally:
        audience.close()
    shown = console.shortened(options.out)
    audience.say("")
    audience.show(
        report.summary(
            done, lambda outcome: console.tail_of(options.out, outcome), _prefix("run-batch"), shown
        )
    )
    with contextlib.suppress(BrokenPipeError):  # the batch is done, whoever reads this
        if not sys.stdout.isatty():  # a person has just read it
            print(options.out / "report.json", flush=True)
    if done.exit_code:
        raise Exit(code=done.exit_code)


def _config() -> Config:
    from ci_tasks import config  # noqa: PLC0415  # `invoke --list` does without

    return config.load(config.find(Path.cwd()))


def _suites(config: Config, names: Sequence[str], *, every: bool = False) -> tuple[Suite, ...]:
    """Return the suites that were named, else those that run by default, or `every` one."""
    if names:
        return tuple(config.suite(name) for name in dict.fromkeys(names))
    return tuple(suite for suite in config.suites if suite.default or every)


def _planned(
    config: Config,
    names: Sequence[str],
    base: str | None,
    head: str | None,
    *,
    everything: bool,
    platform: str = "",
) -> Plan:
    """Make the plan; only of suites that have the platform, when one is given."""
    from ci_tasks import changes, process  # noqa: PLC0415  # `invoke --list` does without
    from ci_tasks import plan as planning  # noqa: PLC0415

    for flag, revision in (("--base", base), ("--head", head)):
        if revision == "":
            raise errors.CiTasksError(f"{flag} is empty", hint="is a variable of the pipeline not set?")
    suites = _suites(config, names)
    if platform and not names:
        suites = tuple(suite for suite in suites if platform in suite.platforms)
    for suite in suites:
        if platform and platform not in suite.platforms:
            raise errors.CiTasksError(
                f"the suite `{suite.name}` does not run on {platform}",
                hint=f"it runs on {', '.join(suite.platforms)}",
            )
    return planning.of(
        config,
        changes.Repository(config.root),
        lambda words: process.printed(words, config.root, "items-from"),
        suites=suites,
        base=_base(base, everything=everything),
        head=head or "",
        everything=everything,
    )


def _base(base: str | None, *, everything: bool) -> Base | None:
    """Return what to compare with: what the user says, else what the provider knows."""
    from ci_tasks.providers import Base  # noqa: PLC0415  # `invoke --list` does without

    if base:
        return Base(revision=base, because=f"{base}, as asked for", given=True)
    if everything:
        return None
    return _provider().base(os.environ, _event())


def _event() -> Mapping[str, Any]:
    """Return the event that GitHub started us for; nothing elsewhere."""
    path = os.environ.get("GITHUB_EVENT_PATH", "")
    if not path:
        return {}
    try:
        event = json.loads(_read(Path(path)))
    except ValueError:
        raise errors.CiTasksError(f"GITHUB_EVENT_PATH names {path}, which is not JSON") from None
    return event if isinstance(event, dict) else {}


def _present(path: Path) -> str:
    """Return a file's text with its line ends as they are; nothing when there is no such file."""
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.CiTasksError(f"cannot read {path}: {reason}") from None


def _provider() -> Provider:
    from ci_tasks import providers  # noqa: PLC0415  # `invoke --list` does without

    return providers.current(os.environ)


def _publish(config: Config, made: Plan) -> None:
    """Write the plan file, and the outputs where the provider reads them."""
    from ci_tasks import github, journal, plan_document, providers  # noqa: PLC0415  # `invoke --list` does without

    journal.state(config.root)
    journal.replace(config.root / github.PLAN, plan_document.as_json(made))
    frame.say(f"written: {github.PLAN}")
    target = os.environ.get("GITHUB_OUTPUT", "")
    if not target:
        frame.say("no outputs were set: this is no job of GitHub Actions")
        return
    with Path(target).open("a", encoding="utf-8") as stream:
        stream.write(providers.file_commands(plan_document.outputs(config, made)))


def _warn(made: Plan) -> None:
    for warning in made.warnings:
        frame.say(f"warning: {warning}")


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _prefix(name: str) -> str:
    """Return what stands before a task's name on this command line: `ci.`, or more in a larger namespace."""
    typed = (word.removesuffix(name) for word in sys.argv[1:] if word == name or word.endswith(f".{name}"))
    return next(typed, "ci.")


ci = Collection("ci", plan, render, run_batch, explain)
"""The tasks, to be added to an existing namespace: `ns = Collection(my_task, ci)`."""

ns = Collection()
"""The namespace of a `tasks.py` that holds nothing else: `from ci_tasks import ns`."""
ns.add_collection(ci)
