"""What GitHub Actions, Buildkite and a terminal each want to be told, as a table."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ci_tasks.errors import PlanError

Environ = Mapping[str, str]

NO_COMMIT = re.compile(r"0{40}|0{64}")
"""What a provider sends as the commit before the first push of a branch."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """What to compare with; `revision` is empty when everything counts as changed."""

    revision: str
    because: str
    fallback: str = ""
    """Revision to use when the first one is not in this clone, as after a force-push."""
    given: bool = False
    """Whether a person named the revision, so that an unknown one is a mistake."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    name: str
    variable: str
    """Set to `true` in every job of this provider; empty for none."""
    base: Callable[[Environ, Mapping[str, Any]], Base | None]
    """Says what a change is compared with, from the environment and the event; `None` when it cannot."""
    group: Callable[[str], str]
    """Opens a section of the log that can be folded."""
    end_group: str
    failure: Callable[[str], str]
    """Makes a line stand out as an error, outside any section."""
    pause: Callable[[str], str]
    """Stops the provider from reading commands in the log until `resume` of the same token."""
    resume: Callable[[str], str]
    inert: Callable[[str], str]
    """Returns a line of somebody else's output in a form that the provider does not act on."""


def _github_base(environ: Environ, event: Mapping[str, Any]) -> Base | None:
    """See https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows.

    An event that names no base selects everything: a failure to know is never «nothing changed».

    :raises PlanError: for an event that runs a stranger's code with this repository's secrets
    """
    name = environ.get("GITHUB_EVENT_NAME", "")
    if name in ("pull_request_target", "workflow_run"):
        raise PlanError(
            f"refusing the event {name}: it would run a stranger's code with this repository's secrets",
            hint="start the workflow on `pull_request`, as `ci.render` does",
        )
    default = _default_branch(event)
    found = None
    if environ.get("GITHUB_BASE_REF"):
        branch = environ["GITHUB_BASE_REF"]
        found = Base(
            revision=f"origin/{branch}", because=f"origin/{branch}, which the pull request wants to join"
        )
    elif name == "merge_group" and _at(event, "merge_group", "base_sha"):
        before = str(_at(event, "merge_group", "base_sha"))
        found = Base(
            revision=before, because=f"{before[:12]}, which the merge queue builds on", fallback=default
        )
    elif name == "push" and environ.get("GITHUB_REF_TYPE") != "tag":
        return _pushed(environ, event, default)
    return found or (Base(revision="", because=f"nothing, since the event is {name}") if name else None)


def _pushed(environ: Environ, event: Mapping[str, Any], default: str) -> Base | None:
    before = str(event.get("before") or "")
    if not before:
        return None  # not GitHub itself: a runner on somebody's own machine
    if not NO_COMMIT.fullmatch(before):
        because = f"{before[:12]}, where the branch was before this push"
        return Base(revision=before, because=because, fallback=default)
    if not default or default == f"origin/{environ.get('GITHUB_REF_NAME', '')}":
        return Base(revision="", because="nothing, since this is the first push of the default branch")
    return Base(revision=default, because=f"{default}, since the branch is new")


def _default_branch(event: Mapping[str, Any]) -> str:
    branch = _at(event, "repository", "default_branch")
    return f"origin/{branch}" if branch else ""


def _at(event: Mapping[str, Any], *keys: str) -> object:
    found: object = event
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _buildkite_base(environ: Environ, _event: Mapping[str, Any]) -> Base | None:
    """See https://buildkite.com/docs/pipelines/configure/environment-variables."""
    branch = environ.get("BUILDKITE_PULL_REQUEST_BASE_BRANCH", "")
    if branch:
        return Base(
            revision=f"origin/{branch}", because=f"origin/{branch}, which the pull request wants to join"
        )
    branch = environ.get("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "")
    if branch and branch != environ.get("BUILDKITE_BRANCH"):
        return Base(revision=f"origin/{branch}", because=f"origin/{branch}, the pipeline's default branch")
    return (
        Base(revision="HEAD^", because="the first parent, since this is the default branch")
        if branch
        else None
    )


def _github_inert(line: str) -> str:
    """Break what the runner reads as a command: `::` at the start of a line, `##[` anywhere in it."""
    line = line.replace("##[", "##\u200b[")
    return re.sub(r"^(\s*):", "\\1\u200b:", line) if line.lstrip().startswith("::") else line


def _buildkite_inert(line: str) -> str:
    """Break what Buildkite reads as a section: a line that starts with `---`, `+++`, `~~~` or `^^^`."""
    return f"\u200b{line}" if re.match(r"(?:\x1b\[[0-9;]*m)*(?:---|\+\+\+|~~~|\^\^\^)\s", line) else line


def _nothing(_text: str) -> str:
    return ""


GITHUB = Provider(
    name="GitHub Actions",
    variable="GITHUB_ACTIONS",
    base=_github_base,
    group=lambda title: f"::group::{title}",
    end_group="::endgroup::",
    failure=lambda text: f"::error::{_github_escaped(text)}",
    pause=lambda token: f"::stop-commands::{token}",
    resume=lambda token: f"::{token}::",
    inert=_github_inert,
)

BUILDKITE = Provider(
    name="Buildkite",
    variable="BUILDKITE",
    base=_buildkite_base,
    group=lambda title: f"--- {title}",
    end_group="",
    failure=lambda text: f"^^^ +++\n{text}",
    pause=_nothing,
    resume=_nothing,
    inert=_buildkite_inert,
)

TERMINAL = Provider(
    name="this terminal",
    variable="",
    base=lambda _environ, _event: None,
    group=_nothing,
    end_group="",
    failure=lambda text: text,
    pause=_nothing,
    resume=_nothing,
    inert=lambda line: line,
)

ALL = (GITHUB, BUILDKITE, TERMINAL)


def current(environ: Environ) -> Provider:
    """Return the provider that this process runs under."""
    return next(entry for entry in ALL if not entry.variable or environ.get(entry.variable) == "true")


def token() -> str:
    """Return a word that no item can guess, to end a pause with."""
    return secrets.token_hex(16)


def _github_escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def file_commands(values: Mapping[str, str]) -> str:
    """Return lines for `GITHUB_OUTPUT`; every value is one line of ASCII.

    :raises ValueError: when a value holds a line end, which would start another output
    """
    for name, value in values.items():
        if len(value.splitlines()) > 1 or value.endswith(("\r", "\n")):
            raise ValueError(f"the output {name} holds a line end")
    return "".join(f"{name}={value}\n" for name, value in values.items())
