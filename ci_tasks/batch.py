"""Run every item of a batch in turn, whatever the others did."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ci_tasks import cache, homes, logs, report
from ci_tasks.errors import BatchError
from ci_tasks.homes import Home, Remover
from ci_tasks.items import Item
from ci_tasks.journal import STATE, Journal, state
from ci_tasks.journal import VERSION as JOURNAL
from ci_tasks.journal import replace as write
from ci_tasks.process import GRACE, KILLED, Command, Crew, Ended, signal_name
from ci_tasks.report import CacheState, Host, Outcome, Report
from ci_tasks.settings import PLACEHOLDERS, Config, Suite

SETUP_LIMIT = 3600.0
"""Seconds that one setup command may take."""
EMPTY = "the download cache is still empty: does the command use the folder it is given?"
TICK = 0.5
"""Seconds between two looks at the progress."""

_PLACEHOLDER = re.compile(r"\{(\{(?:NAMES)\})\}|\{(NAMES)\}".replace("NAMES", "|".join(PLACEHOLDERS)))


@dataclass(frozen=True, kw_only=True)
class Work:
    """One item, and the suite whose command runs it."""

    suite: Suite
    item: Item


class Audience(Protocol):
    """Whoever is told what happens; nothing it does can stop a batch."""

    def started(self, key: int, work: Work) -> None: ...
    def printed(self, key: int, chunk: bytes) -> None: ...
    def finished(self, key: int, outcome: Outcome, log: Path | None) -> None: ...
    def setting_up(self, suite: str, words: Sequence[str]) -> None: ...
    def set_up(self) -> None: ...
    def stopping(self, signal: str) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Options:
    platform: str
    out: Path
    environ: Mapping[str, str]
    host: Host
    base: str = ""
    head: str = ""
    jobs: int = 1
    keep_homes: bool = False


class _Batch:
    """The state of one run: what is waiting, what runs where, what came out."""

    def __init__(self, config: Config, work: Sequence[Work], options: Options, audience: Audience) -> None:
        self.config = config
        self.work = work
        self.options = options
        self.audience = audience
        self.outcomes: dict[int, Outcome] = {}
        self.running: dict[int, tuple[Home, bool]] = {}
        self.warnings: list[str] = []
        self.signal = 0
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.store = cache.Store(config.root / STATE / "cache")
        self.bytes_before = self.store.size()
        self.suites = list({entry.suite.name: entry.suite for entry in work}.values())
        self.given = {suite.name: homes.allowed(options.environ, suite.pass_env) for suite in self.suites}
        self.parent = homes.parent(options.environ.get("RUNNER_TEMP", ""))
        self.logs = options.out / "logs"
        self.journal = Journal(options.out / "journal.jsonl")
        self.remover = Remover()

    def run(self) -> Report:
        about = {
            "platform": self.options.platform,
            "head": self.options.head,
            "started": _stamp(self.started),
        }
        with self.journal, Crew(self.audience.printed) as crew:
            self.journal.record({"journal": JOURNAL, **about})
            skipped = self._not_set_up(crew)
            waiting = deque(key for key in range(len(self.work)) if key not in skipped)
            while (waiting and not crew.stopped) or crew.running:
                while waiting and not crew.stopped and crew.running < self.options.jobs:
                    self._start(crew, waiting.popleft())
                for key, ended in crew.wait(TICK):
                    self._finish(key, ended)
                self._tick(crew)
            self.signal = crew.stopped
            done = self.write()
            return self.write() if self._tidy() else done

    def _tick(self, crew: Crew) -> None:
        if crew.stopped and not self.signal:
            self.signal = crew.stopped
            self.audience.stopping(signal_name(crew.stopped))
        self.audience.tick()

    def _tidy(self) -> bool:
        """Wait for the homes that are being removed; what cannot be removed is a warning.

        :returns: whether there is such a warning, which the report has to hold
        """
        left = self.remover.close()
        for folder, reason in left.items():
            self.warnings.append(f"the home {folder} could not be removed: {reason}")
        with contextlib.suppress(OSError):  # kept homes are in it, or an item has removed it
            self.parent.rmdir()
        return bool(left)

    def write(self) -> Report:
        """Write the report of what is known now, and return it; a disk that is full becomes a warning."""
        done = self.report()
        try:
            write(self.options.out / "report.json", report.as_json(done))
        except OSError as error:
            done = replace(done, warnings=(*done.warnings, f"the report could not be written: {error}"))
        return done

    def _not_set_up(self, crew: Crew) -> set[int]:
        """Run the setup commands of every suite; record the items of suites whose setup failed."""
        skipped: set[int] = set()
        for suite in self.suites:
            reason = self._set_up(crew, suite) if not crew.stopped else ""
            if reason:
                for key, entry in enumerate(self.work):
                    if entry.suite == suite:
                        self._record(key, _outcome(entry, "not-run", reason))
                        skipped.add(key)
        return skipped

    def _set_up(self, crew: Crew, suite: Suite) -> str:
        """Run a suite's setup commands; return why its items cannot run, or nothing."""
        for number, words in enumerate(suite.setup, start=1):
            self.audience.setting_up(suite.name, words)
            log = self.logs / f"setup-{suite.name}-{number}.log"
            values = {
                "root": os.fspath(self.config.root),
                "cache": os.fspath(self.store.folder),
                "python": sys.executable,
            }
            command = Command(
                words=[_filled(word, values) for word in words],
                folder=self.config.root,
                environment=self.options.environ,
                log=log,
                limit=SETUP_LIMIT,
            )
            crew.start(-1, command)
            ended: list[tuple[int, Ended]] = []
            while not ended:
                ended = crew.wait(TICK)
                self._tick(crew)
            self.audience.set_up()
            status, reason = _judged(ended[0][1], SETUP_LIMIT)
            if status != "passed":
                tail = "" if ended[0][1].failure else " | ".join(("", *logs.tail(log, 3)))
                return f"setup `{' '.join(words)}`: {reason}{tail} (see logs/{log.name})"
        return ""

    def _start(self, crew: Crew, key: int) -> None:
        entry = self.work[key]
        self.audience.started(key, entry)
        name = homes.slug(entry.item.name, key + 1)
        alone = crew.running == 0 and self.options.jobs == 1
        try:
            home = homes.make(self.parent / name, entry.suite.cache, self.store)
            crew.start(key, self._command(entry, home, self.logs / f"{name}.log"))
        except OSError as error:
            self._record(
                key, _outcome(entry, "failed", f"no home or log can be made: {error.strerror or error}")
            )
            return
        self.running[key] = (home, alone)

    def _command(self, entry: Work, home: Home, log: Path) -> Command:
        suite, item = entry.suite, entry.item
        values = {
            "name": item.name,
            "path": item.path or item.name,
            "version": item.version,
            "platform": self.options.platform,
            "root": os.fspath(self.config.root),
            "home": os.fspath(home.folder),
            "cache": os.fspath(home.loan.folder),
            "python": sys.executable,
            "args": " ".join(item.args),
        }
        own = {name: _filled(value, values) for name, value in suite.env}
        if suite.cache and suite.cache.variable:
            own[suite.cache.variable] = os.fspath(home.loan.folder)
        words = [
            part
            for word in suite.command
            for part in (item.args if word == "{args}" else [_filled(word, values)])
        ]
        return Command(
            words=words,
            folder=self.config.root,
            environment=self.given[suite.name] | homes.environment(home, suite.home) | own,
            log=log,
            limit=suite.timeout,
        )

    def _finish(self, key: int, ended: Ended) -> None:
        entry = self.work[key]
        home, alone = self.running.pop(key)
        status, reason = _judged(ended, entry.suite.timeout)
        if ended.log_failure:
            reason = f"{reason}; its log is not complete: {ended.log_failure}".removeprefix("; ")
        use = self._settled(home, entry.item.name, passed=status == "passed", alone=alone)
        kept = self.options.keep_homes or status != "passed"
        if not kept:
            self.remover.remove(home.folder)
        outcome = replace(
            _outcome(entry, status, reason),
            exit_code=ended.exit_code,
            seconds=round(ended.seconds, 3),
            attempts=1,
            cache_bytes_added=use.added,
            cache_bytes_reused=use.reused,
            log=f"logs/{home.folder.name}.log",
            home=os.fspath(home.folder) if kept else None,
        )
        self._record(key, outcome)

    def _settled(self, home: Home, item: str, *, passed: bool, alone: bool) -> cache.Use:
        try:
            use = cache.settle(home.loan, self.store, passed=passed, alone=alone)
        except OSError as error:
            self.warnings.append(f"the download cache could not take what {item} added: {error}")
            return cache.Use(added=None, reused=None)
        if use.spoilt:
            counted = report.counted(use.spoilt, "entry", "entries")
            self.warnings.append(
                f"{item} changed {counted} of the download cache in place; they were thrown away"
            )
        return use

    def _record(self, key: int, outcome: Outcome) -> None:
        self.outcomes[key] = outcome
        self.journal.record(report.as_record(outcome))
        self.audience.finished(key, outcome, self.options.out / outcome.log if outcome.log else None)

    def report(self) -> Report:
        """Return the report of what is known now: every item exactly once."""
        why = f"the batch was ended by {signal_name(self.signal)}" if self.signal else "the batch ended early"
        outcomes = [
            self.outcomes.get(key)
            or _outcome(entry, "interrupted" if key in self.running else "not-run", why)
            for key, entry in enumerate(self.work)
        ]
        modes = {entry.suite.cache.mode for entry in self.work if entry.suite.cache}
        after = self.store.size()
        empty = modes and not after and any(outcome.status == "passed" for outcome in outcomes)
        warnings = [
            *self.warnings,
            *([EMPTY] if empty else []),
            *([self.journal.failure] if self.journal.failure else []),
        ]
        return Report(
            suites=tuple(suite.name for suite in self.suites),
            platform=self.options.platform,
            base=self.options.base or None,
            head=self.options.head or None,
            host=self.options.host,
            started=_stamp(self.started),
            seconds=round(time.monotonic() - self.clock, 3),
            cache=CacheState(
                mode=" and ".join(sorted(modes)) or "none",
                bytes_before=self.bytes_before,
                bytes_after=after,
            ),
            outcomes=tuple(outcomes),
            signal=self.signal,
            warnings=tuple(warnings),
        )


def run(config: Config, work: Sequence[Work], options: Options, audience: Audience) -> Report:
    """Run every item, write `report.json`, `journal.jsonl` and `logs/` into `options.out`, return the report.

    :raises BatchError: before the first item, when the batch cannot run here
    """
    _check(work, options.environ)
    _prepare(config.root, options.out)
    batch = _Batch(config, work, options, audience)
    try:
        return batch.run()
    except BaseException:  # a bug of ours: what is known is not lost with it
        batch.write()
        raise


def _check(work: Sequence[Work], environ: Mapping[str, str]) -> None:
    for suite in {entry.suite.name: entry.suite for entry in work}.values():
        if not suite.command:
            raise BatchError(
                f"suites.{suite.name} has no `command`, so its items cannot run",
                hint='add one, such as command = "./install {name}"',
            )
        missing = list(homes.unset(environ, suite.pass_env))
        if missing:
            raise BatchError(
                f"suites.{suite.name}.pass-env needs {', '.join(missing)}, which is not set",
                hint=f"export it, or write `{missing[0]}?` in pass-env when items can do without",
            )


def _prepare(root: Path, out: Path) -> None:
    """Make the folders of a run; an earlier run of ours is replaced, anything else is left alone."""
    state(root)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "journal.jsonl").exists())):
        raise BatchError(
            f"{out} exists, and is no earlier run of ours", hint="name an empty or a new folder with --out"
        )
    (out / "logs").mkdir(parents=True, exist_ok=True)
    for old in (*(out / "logs").glob("*.log"), out / "report.json"):
        old.unlink(missing_ok=True)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Put values in for `{…}`, and `{…}` for `{{…}}`; what a value holds is not looked at again."""
    return _PLACEHOLDER.sub(lambda match: match[1] or values.get(match[2], match[0]), text)


def _judged(ended: Ended, limit: float) -> tuple[str, str]:
    """Return the status and the reason for how a command ended."""
    if ended.failure:
        return "failed", ended.failure
    if ended.interrupted:
        return "interrupted", "the batch was told to stop"
    if ended.timed_out:
        ignored = f", and ignored SIGTERM for {report.duration(GRACE)}" if ended.signal == KILLED else ""
        return "timed-out", f"took longer than {report.duration(limit)}{ignored}"
    if ended.signal:
        return "failed", f"killed by {signal_name(ended.signal)}"
    if ended.exit_code:
        return "failed", f"exit code {ended.exit_code}"
    return "passed", "left processes running, which were killed" if ended.left_running else ""


def _outcome(entry: Work, status: str, reason: str) -> Outcome:
    return Outcome(
        suite=entry.suite.name,
        item=entry.item.name,
        path=entry.item.path or None,
        status=status,
        reason=reason,
        exit_code=None,
        seconds=0.0,
        attempts=0,
        cache_bytes_added=None,
        cache_bytes_reused=None,
        log=None,
        home=None,
    )


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
