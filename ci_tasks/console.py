"""What a person, or the log of a CI job, sees while a batch runs."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ci_tasks import logs, providers
from ci_tasks.process import STOP_GRACE
from ci_tasks.providers import Provider
from ci_tasks.report import STATUSES, Line, Outcome, counted, duration, size

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from ci_tasks.batch import Work

STYLES = {"good": "32", "bad": "31", "quiet": "2"}
"""SGR codes of the styles of a line."""
HEARTBEAT = 60.0
"""Seconds of silence after which a log without a terminal says what is running."""
SHOWN = 2**20
"""Bytes of one item's output that go to the log of a CI job; all of it is in the item's own log."""
ANNOTATIONS = 10
"""Failures that are shown by the provider's own means; GitHub keeps no more of a step (checked November 2026)."""
WIDEST = 32
"""Characters that the column of names takes at most."""
WORD = max(map(len, STATUSES))
LINE = 8192
"""Characters after which a line without an end is cut in two."""

_ESCAPE = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, such as a window's title
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # control sequences; colours are among them
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


class Console:
    """Tells a stream what happens. When nobody reads it any more, it falls silent; the batch goes on."""

    def __init__(
        self, stream: TextIO, provider: Provider, names: Sequence[str], *, colour: bool, live: bool, jobs: int
    ) -> None:
        self._stream = stream
        self._provider = provider
        self._total = len(names)
        self._width = min(max(map(len, names), default=0), WIDEST)
        self._colour = colour
        self._folded = provider is not providers.TERMINAL
        self._streams = self._folded and jobs == 1
        self._running: dict[int, tuple[str, float]] = {}
        self._done = self._bad = 0
        self._spoke = time.monotonic()
        self._output: _Lines | None = None
        self._token = ""
        self._live = _live(stream) if live else None
        self.silent = False
        """Whether writing failed, so that the rest was not shown."""

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str, style: str = "") -> None:
        """Write one line of our own."""
        if self._colour and style in STYLES:
            text = f"\x1b[{STYLES[style]}m{text}\x1b[0m"
        self._spoke = time.monotonic()
        if self.silent:
            return
        try:
            if self._live:
                self._live.console.out(text, highlight=False)
            else:
                self._stream.write(text + "\n")
                self._stream.flush()
        except (OSError, ValueError):  # the reader has gone, or the disk is full
            self.silent = True

    def show(self, lines: Iterable[Line]) -> None:
        """Write lines that may quote items: what they hold can command neither a terminal nor a provider."""
        for line in lines:
            self.say(self._inert(line.text), line.style)

    def _inert(self, text: str) -> str:
        return inert(text, self._provider, colour=self._colour)

    def started(self, key: int, work: Work) -> None:
        self._running[key] = (work.item.name, time.monotonic())
        if self._streams:
            self._open(f"{work.item.name} ({key + 1} of {self._total})")
        self.tick()

    def setting_up(self, suite: str, words: Sequence[str]) -> None:
        title = f"setting up {suite}: {' '.join(words)}"
        if self._folded:
            self._open(title)
        else:
            self.say(self._inert(title.replace("\n", " ")), "quiet")
        self._running[-1] = (f"setup of {suite}", time.monotonic())

    def set_up(self) -> None:
        del self._running[-1]
        if self._folded:
            self._shut()

    def stopping(self, signal: str) -> None:
        grace = duration(STOP_GRACE)
        self.say(f"{signal}: ending what runs, for up to {grace}; once more to kill it at once", "bad")

    def printed(self, key: int, chunk: bytes) -> None:
        if self._output and (self._streams or key < 0):
            self._output.take(chunk)

    def _open(self, title: str) -> None:
        self.say(self._provider.group(self._inert(title.replace("\n", " "))))
        self._token = providers.token()
        if self._provider.pause(self._token):
            self.say(self._provider.pause(self._token))
        self._output = _Lines(self._put)

    def _put(self, line: str) -> None:
        self.say(self._inert(line))

    def _shut(self) -> None:
        if self._output:
            self._output.close()
        self._output = None
        for text in (self._provider.resume(self._token), self._provider.end_group):
            if text:
                self.say(text)

    def finished(self, key: int, outcome: Outcome, log: Path | None) -> None:
        self._done += 1
        self._bad += outcome.status != "passed"
        if key in self._running:
            del self._running[key]
            if self._folded and not self._streams:
                self._open(outcome.item)
                self._replay(log)
            if self._output:
                self._shut()
        if outcome.status != "not-run":
            self._result(outcome)
        self.tick()

    def _replay(self, log: Path | None) -> None:
        if self._output and log:
            with contextlib.suppress(OSError), log.open("rb") as stream:  # an item may have removed it
                self._output.take(stream.read(SHOWN + 1))

    def _result(self, outcome: Outcome) -> None:
        width = len(str(self._total))
        cache = f"  cache +{size(outcome.cache_bytes_added)}" if outcome.cache_bytes_added else ""
        reused = f"  reused {size(outcome.cache_bytes_reused)}" if outcome.cache_bytes_reused else ""
        reason = f"  {outcome.reason}" if outcome.reason else ""
        number = f"[{self._done:{width}}/{self._total}]"
        took = duration(outcome.seconds)
        text = f"{number} {outcome.status:<{WORD}} {outcome.item:<{self._width}} {took:>9}"
        text = self._inert(f"{text}{cache}{reused}{reason}")
        if self._folded and outcome.status != "passed" and self._bad <= ANNOTATIONS:
            self.say(self._provider.failure(text))
        else:
            self.say(text, "good" if outcome.status == "passed" else "bad")

    def tick(self) -> None:
        """Refresh the live line; without a terminal, say what runs when nothing was said for long."""
        now = time.monotonic()
        names = (f"{name} ({duration(now - since)})" for name, since in self._running.values())
        running = self._inert(", ".join(names).replace("\n", " "))
        if self._live and running:
            bad = f", {self._bad} not passed" if self._bad else ""
            left = counted(self._total - self._done, "item")
            text = f"{left} to go{bad}; running: {running}"
            self._live.update(_text(text, colour=self._colour), refresh=True)
        elif running and now - self._spoke >= HEARTBEAT:
            self.say(f"still running: {running}", "quiet")


class _Lines:
    """Turns chunks of any bytes into lines of text that are safe to show, up to a bound."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._left = SHOWN

    def take(self, chunk: bytes) -> None:
        if self._left < 0:
            return
        self._left -= len(chunk)
        if self._left < 0:
            chunk = chunk[: self._left]
        text = self._rest + self._decoder.decode(chunk)
        *lines, self._rest = re.split(r"\r\n|\r(?!\Z)|\n", text)
        for line in lines:
            self._show(line)
        if self._left < 0:
            self.close()
            self._put(f"[more output: see the item's log; the first {size(SHOWN)} are above]")
        while len(self._rest) > LINE:
            self._show(self._rest[:LINE])
            self._rest = self._rest[LINE:]

    def close(self) -> None:
        if self._rest:
            self._show(self._rest)
            self._rest = ""

    def _show(self, line: str) -> None:
        for start in range(0, max(len(line), 1), LINE):
            self._put(line[start : start + LINE])


def plain(text: str, *, colour: bool = True) -> str:
    """Take out what commands a terminal; tabs stay, and colours if they are wanted."""
    return _ESCAPE.sub(lambda found: found[0] if colour and _COLOUR.fullmatch(found[0]) else "", text)


def inert(text: str, provider: Provider, *, colour: bool = False) -> str:
    """Return text, line by line, in a form that commands neither a terminal nor a provider."""
    return "\n".join(provider.inert(plain(line, colour=colour)) for line in text.split("\n"))


def colours(stream: TextIO, environ: Mapping[str, str], provider: Provider) -> bool:
    """Tell whether to use colours: see https://no-color.org."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") or provider is not providers.TERMINAL:
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def _live(stream: TextIO) -> Live:
    from rich.console import Console as Rich  # noqa: PLC0415  # 50 ms, and only a terminal needs it
    from rich.live import Live  # noqa: PLC0415

    live = Live(console=Rich(file=stream, highlight=False, markup=False), auto_refresh=False, transient=True)
    live.start()
    return live


def _text(text: str, *, colour: bool) -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text(text, style="dim" if colour else "", no_wrap=True, overflow="ellipsis")


def tail_of(folder: Path, outcome: Outcome) -> tuple[str, ...]:
    """Return the last lines of an item's log."""
    return logs.tail(folder / outcome.log, 12) if outcome.log else ()


def shortened(path: Path) -> str:
    """Return a path relative to the current folder where it lies below it."""
    here = Path.cwd()
    return os.fspath(path.relative_to(here)) if path.is_relative_to(here) else os.fspath(path)
