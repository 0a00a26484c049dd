"""Run commands, each in its own process group, and end all of it when told to.

One thread waits for everything: output arrives through pipes, ends of processes and signals through one
wake-up pipe, so no item costs a thread or a poll. See https://docs.python.org/3/library/signal.html.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from ci_tasks import orphans
from ci_tasks.errors import CiTasksError
from ci_tasks.logs import Log

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL when an item's time is up."""
STOP_GRACE = 3.0
"""The same when the whole batch is told to stop: CI gives us 7.5 to 10 seconds in all."""
DRAIN = 0.5
"""Seconds that background processes get to finish after the item's own process has ended."""
KILL_WAIT = 1.0
"""Seconds to wait for killed processes to be gone."""
CHUNK = 2**16
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
KILLED = int(signal.SIGKILL)

Output = Callable[[int, bytes], None]


@dataclass(frozen=True, kw_only=True)
class Command:
    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    log: Path
    limit: float
    """Seconds that it may take."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended; `exit_code` is `None` when a signal ended it or it never started."""

    exit_code: int | None
    signal: int = 0
    seconds: float = 0.0
    timed_out: bool = False
    interrupted: bool = False
    failure: str = ""
    """Why it could not start, in the words of the operating system."""
    left_running: bool = False
    """Whether it left processes behind, which were killed."""
    log_failure: str = ""


@dataclass(kw_only=True)
class _Child:
    process: subprocess.Popen[bytes]
    pipe: int
    log: Log
    started: float
    deadline: float
    kill_at: float = float("inf")
    settle_by: float = float("inf")
    give_up: float = float("inf")
    home: str
    ended: float = 0.0
    timed_out: bool = False
    interrupted: bool = False
    swept: bool = False
    left_running: bool = False

    @property
    def due(self) -> float:
        """When something has to be done about it even if nothing happens."""
        if self.process.returncode is None:
            return min(self.deadline, self.kill_at)
        return min(self.settle_by, time.monotonic() + 0.02)


class Crew:
    """The commands that run now. Use it as a context manager, in the main thread.

    While it is entered, SIGINT, SIGTERM and SIGHUP set `stopped` and end every command; a second one
    kills them at once.
    """

    def __init__(self, output: Output = lambda _key, _chunk: None) -> None:
        self._output = output
        self._children: dict[int, _Child] = {}
        self._failed: list[tuple[int, Ended]] = []
        self._selector = selectors.DefaultSelector()
        self._restore = contextlib.ExitStack()
        self._wake = self._nothing = -1
        self.stopped = 0
        """Number of the signal that told the batch to stop; 0 while none did."""

    def __enter__(self) -> Crew:
        self._wake, write_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(write_end, False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._restore.callback(self._selector.close)
        for descriptor in (self._wake, write_end):
            self._restore.callback(os.close, descriptor)
        self._restore.callback(
            signal.set_wakeup_fd, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        )
        for number in (*STOPPING, signal.SIGCHLD):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: whoever started us wants it ignored
            self._restore.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
            signal.signal(number, _heard)
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._restore.callback(os.close, self._nothing)
        orphans.adopt()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            _signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()
            self._close(child)
        self._children.clear()
        self._restore.close()

    @property
    def running(self) -> int:
        return len(self._children) + len(self._failed)

    def start(self, key: int, command: Command) -> None:
        """Start a command; one that cannot start is among the next that `wait` returns."""
        log = Log(command.log)
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603  # running the project's commands is what this is for
                command.words,
                cwd=command.folder,
                env=dict(command.environment),
                stdin=self._nothing,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            os.close(read_end)
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            log.write(f"cannot start {command.words[0]!r}: {reason}\n".encode("utf-8", "backslashreplace"))
            log.close()
            self._failed.append(
                (key, Ended(exit_code=None, failure=f"cannot start {command.words[0]!r}: {reason}"))
            )
            return
        finally:
            os.close(write_end)
        os.set_blocking(read_end, False)
        now = time.monotonic()
        child = _Child(
            home=command.environment.get("HOME", ""),
            process=process,
            pipe=read_end,
            log=log,
            started=now,
            deadline=now + command.limit,
        )
        self._children[key] = child
        self._selector.register(read_end, selectors.EVENT_READ, key)

    def wait(self, most: float) -> list[tuple[int, Ended]]:
        """Wait until a command has ended, a stop is asked for, or `most` seconds have passed.

        :returns: the keys of the commands that have ended, and how
        """
        until = time.monotonic() + most
        stopped = self.stopped
        while True:
            ended = [*self._failed, *self._settled()]
            self._failed.clear()
            now = time.monotonic()
            if ended or now >= until or self.stopped != stopped:
                return ended
            due = min([until, *(child.due for child in self._children.values())])
            self._listen(max(due - now, 0))

    def _listen(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.fd == self._wake:
                self._hear()
            else:
                self._read(key.data, self._children[key.data])

    def _hear(self) -> None:
        """Read the numbers of the signals that have arrived."""
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._wake, 512):
                if number in STOPPING:
                    self._stop(number)
        for child in self._children.values():
            if child.process.returncode is None and child.process.poll() is not None:
                child.ended = time.monotonic()
                child.settle_by = child.kill_at if child.kill_at < float("inf") else child.ended + DRAIN

    def _stop(self, number: int) -> None:
        grace = 0.0 if self.stopped else STOP_GRACE
        self.stopped = self.stopped or number
        for child in self._children.values():
            child.interrupted = child.process.returncode is None or child.interrupted
            self._terminate(child, grace)

    def _terminate(self, child: _Child, grace: float) -> None:
        """Ask the whole group to end; SIGCONT, so that a stopped process hears it too."""
        _signal_group(child.process.pid, signal.SIGTERM)
        _signal_group(child.process.pid, signal.SIGCONT)
        child.kill_at = min(child.kill_at, time.monotonic() + grace)

    def _read(self, key: int, child: _Child) -> None:
        try:
            chunk = os.read(child.pipe, CHUNK)
        except BlockingIOError:
            return
        if chunk:
            child.log.write(chunk)
            self._output(key, chunk)
        else:
            self._hang_up(child)

    def _hang_up(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _settled(self) -> Iterator[tuple[int, Ended]]:
        now = time.monotonic()
        for key, child in list(self._children.items()):
            if self._advance(child, now):
                self._close(child)
                del self._children[key]
                yield key, _result(child)

    def _advance(self, child: _Child, now: float) -> bool:
        """Do what is due for a child; return whether it is done with."""
        pid = child.process.pid
        if child.process.returncode is None:
            if now >= child.kill_at:
                _signal_group(pid, signal.SIGKILL)
                child.kill_at = float("inf")
                child.deadline = float("inf")
            elif now >= child.deadline:
                child.timed_out = True
                child.deadline = float("inf")
                self._terminate(child, GRACE)
            return False
        left = self._left_by(child)
        if not left and not orphans.group_lives(pid) and child.pipe < 0:
            return True
        if now < child.settle_by:
            return False
        if child.swept:
            orphans.kill(left)  # what a killed orphan had started has become ours only now
            return now >= child.give_up
        child.give_up = now + KILL_WAIT
        child.left_running = not child.timed_out and not child.interrupted
        _signal_group(pid, signal.SIGKILL)
        orphans.kill(left)
        child.swept = True
        return False

    def _left_by(self, child: _Child) -> list[int]:
        commands = {other.process.pid for other in self._children.values()}
        return orphans.adopted(commands, child.home, alone=len(self._children) == 1)

    def _close(self, child: _Child) -> None:
        self._hang_up(child)
        child.log.close()


def _result(child: _Child) -> Ended:
    code = child.process.returncode
    return Ended(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else 0,
        seconds=child.ended - child.started,
        timed_out=child.timed_out,
        interrupted=child.interrupted and not child.timed_out,
        left_running=child.left_running,
        log_failure=child.log.failure,
    )


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number arrives through the wake-up pipe."""


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        os.killpg(group, number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def printed(words: Sequence[str], folder: Path, source: str) -> str:
    """Run a command and return what it prints; it reads nothing, and its errors are shown.

    :param source: the key in `ci.toml` that the command stands in, for error messages
    :raises CiTasksError: when it cannot start or does not exit with 0
    """
    try:
        done = subprocess.run(  # noqa: S603  # the project's own command
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CiTasksError(
            f"{source}: cannot start `{words[0]}`: {reason}", hint="is it installed?"
        ) from None
    if done.returncode:
        raise CiTasksError(
            f"{source} exited with {done.returncode}", hint="run it by hand in the project's root"
        )
    return done.stdout.decode("utf-8", "replace")


def complaint(words: Sequence[str]) -> str:
    """Run a small command and return the first line of its errors; nothing when it exits with 0."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603  # ours
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[0] if lines else f"{words[0]} exited with {done.returncode}") if done.returncode else ""
