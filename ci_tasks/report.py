"""What happened to a batch, as data, JSON and text. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ci_tasks import errors

VERSION = 1
STATUSES = ("passed", "failed", "timed-out", "interrupted", "not-run")
"""Every item has exactly one of them."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened to one item: a row of the report's `outcomes`, under the same names."""

    suite: str
    item: str
    path: str | None
    status: str
    reason: str
    """Why it is not `passed`, or what else is worth knowing; empty for nothing."""
    exit_code: int | None
    seconds: float
    attempts: int
    cache_bytes_added: int | None
    cache_bytes_reused: int | None
    log: str | None
    """The log file, relative to the report's own folder."""
    home: str | None
    """The item's home where it was kept."""


@dataclass(frozen=True, kw_only=True)
class CacheState:
    mode: str
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, kw_only=True)
class Host:
    name: str
    platform: str
    system: str
    python: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class Report:
    suites: tuple[str, ...]
    platform: str
    base: str | None
    head: str | None
    host: Host
    started: str
    """When the batch started, UTC, ISO 8601."""
    seconds: float
    cache: CacheState
    outcomes: tuple[Outcome, ...]
    signal: int = 0
    """Number of the signal that ended the batch early; 0 for none."""
    warnings: tuple[str, ...] = ()

    def of(self, status: str) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    @property
    def exit_code(self) -> int:
        if self.signal:
            return errors.SIGNALLED + self.signal
        return errors.PASSED if len(self.of("passed")) == len(self.outcomes) else errors.FAILED


def as_json(report: Report) -> str:
    """Return the report document, version 1, with each outcome on a line of its own."""
    values = {"version": VERSION, **vars(report), "host": vars(report.host), "cache": vars(report.cache)}
    del values["outcomes"]
    outcomes = ",\n".join(json.dumps(as_record(outcome)) for outcome in report.outcomes)
    return f'{json.dumps(values)[:-1]}, "outcomes": [\n{outcomes}\n]}}\n'


def counts(report: Report) -> str:
    """Return `3 passed, 1 failed`: every status that occurs, with numbers that add up."""
    found = [(len(report.of(status)), status) for status in STATUSES]
    return ", ".join(f"{count} {status}" for count, status in found if count) or "no items"


@dataclass(frozen=True, kw_only=True)
class Line:
    text: str
    style: str = ""
    """`good`, `bad`, `quiet`, or nothing."""


def again(outcome: Outcome, report: Report, prefix: str) -> str:
    """Return the command that runs an item alone, ready to be pasted into a shell."""
    namesakes = [one for one in report.outcomes if (one.suite, one.item) == (outcome.suite, outcome.item)]
    name = outcome.item if len(namesakes) == 1 else outcome.path or outcome.item
    words = ["invoke", f"{prefix}run-batch", "--arch", report.platform, "--suite", outcome.suite]
    system, _, architecture = report.host.platform.partition("-")
    elsewhere = not (
        report.platform.startswith(f"{system}-") and report.platform.endswith(f"-{architecture}")
    )
    named = [f"--item={name}"] if name.startswith("-") else ["--item", name]
    return shlex.join([*words, *named, *(["--insist"] if elsewhere else [])])


def summary(
    report: Report, tail: Callable[[Outcome], Iterable[str]], prefix: str, out: str
) -> tuple[Line, ...]:
    """Return what a person reads at the end: the failures, each with its log and its command, then the totals.

    :param tail: gives the last lines of an item's log
    :param prefix: what stands before a task's name on this project's command line, such as `ci.`
    :param out: the folder of the report, for paths
    """
    bad = [outcome for outcome in report.outcomes if outcome.status not in ("passed", "not-run")]
    lines = [line for outcome in bad for line in _failure(outcome, tail(outcome), report, prefix, out)]
    lines += _not_run(report.of("not-run"))
    lines += [Line(text=f"warning: {warning}", style="bad") for warning in report.warnings]
    style = "good" if report.exit_code == errors.PASSED else "bad"
    took = duration(report.seconds)
    total = len(report.outcomes)
    lines.append(
        Line(text=f"{counted(total, 'item')} on {report.platform} in {took}: {counts(report)}", style=style)
    )
    lines.append(Line(text=f"cache: {_cache(report)}", style="quiet"))
    lines.append(Line(text=f"report: {out}/report.json", style="quiet"))
    return tuple(lines)


def _failure(outcome: Outcome, tail: Iterable[str], report: Report, prefix: str, out: str) -> list[Line]:
    lines = [Line(text=f"{outcome.status}: {outcome.item} ({outcome.suite}): {outcome.reason}", style="bad")]
    lines += [Line(text=f"  | {line}") for line in tail]
    if outcome.log:
        lines.append(Line(text=f"  log:   {out}/{outcome.log}", style="quiet"))
    if outcome.home:
        lines.append(Line(text=f"  home:  {outcome.home}", style="quiet"))
    return [*lines, Line(text=f"  again: {again(outcome, report, prefix)}"), Line(text="")]


def _not_run(outcomes: Sequence[Outcome]) -> list[Line]:
    by_reason: dict[str, list[str]] = {}
    for outcome in outcomes:
        by_reason.setdefault(outcome.reason, []).append(outcome.item)
    lines = []
    for reason, names in by_reason.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004
        lines.append(Line(text=f"not-run: {shown}: {reason}", style="bad"))
    return lines


def _cache(report: Report) -> str:
    if report.cache.mode == "none":
        return "not used"
    text = f"{size(report.cache.bytes_after)} ({report.cache.mode})"
    for word, found in (
        ("added", [outcome.cache_bytes_added for outcome in report.outcomes]),
        ("reused", [outcome.cache_bytes_reused for outcome in report.outcomes]),
    ):
        known = [count for count in found if count is not None]
        text += f", {size(sum(known))} {word}" if known else f", {word}: not known"
    return text


def size(count: int) -> str:
    """Return bytes for people: `0 B`, `1.5 kB`, `12.3 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    """Return a time for people: `0.4 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004


def counted(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def as_record(outcome: Outcome) -> dict[str, Any]:
    return dict(vars(outcome))
