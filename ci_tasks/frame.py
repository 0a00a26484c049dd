"""What stands round every task: signals, streams, git's variables, errors and exit codes."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

from invoke.exceptions import Exit

from ci_tasks import errors

P = ParamSpec("P")

KEPT_GIT_VARIABLES = (
    "GIT_EXEC_PATH", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY", "GIT_ASKPASS",
    "GIT_HTTP_PROXY_AUTHMETHOD", "GIT_ALLOW_PROTOCOL", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_TRACE", "GIT_TEST_", "GIT_PYTHON_",
    "GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
)  # fmt: skip
"""Variables of git that stay; the others, which a git hook sets, would lead git to another repository."""


def translated(body: Callable[P, None]) -> Callable[P, None]:
    """Turn what a task raises into the documented exit codes; Invoke alone would exit 1 for all of it."""

    @functools.wraps(body)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        _settle_in()
        try:
            body(*arguments, **named)
            sys.stdout.flush()
        except errors.CiTasksError as error:
            complain(str(error), error.hint)
            raise Exit(code=error.exit_code) from None
        except BrokenPipeError:
            _give_up_stdout()
            raise Exit(code=errors.SIGNALLED + signal.SIGPIPE) from None
        except OSError as error:
            _give_up_stdout()
            complain(
                f"{error.filename or 'the system'}: {error.strerror or error}".lower(),
                "is there room, and may you write there?",
            )
            raise Exit(code=errors.USAGE) from None
        except KeyboardInterrupt:
            raise Exit(code=errors.SIGNALLED + signal.SIGINT) from None
        except Exit:
            raise
        except Exception:  # noqa: BLE001  # the last resort: say that it is our fault, and how to tell us
            say(traceback.format_exc())
            complain(f"this is a bug in ci_tasks {errors.VERSION}", "please report it, with the lines above")
            raise Exit(code=errors.BUG) from None

    return run


def _settle_in() -> None:
    """Undo what whoever started us may have done to signals, streams and git."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would make every exit code 0
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # until we end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        if not name.startswith(KEPT_GIT_VARIABLES):
            del os.environ[name]


def _give_up_stdout() -> None:
    """Let nothing fail again when the interpreter flushes what nobody can take."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown(text: str) -> str:
    """Return text that may quote names of files and items: it can command neither a terminal nor the CI provider."""
    from ci_tasks import console, providers  # noqa: PLC0415  # `invoke --list` does without

    return console.inert(text, providers.current(os.environ))


def say(text: str) -> None:
    """Write a line to stderr; when nobody can read it, go on."""
    with contextlib.suppress(OSError, ValueError):
        print(shown(text), file=sys.stderr, flush=True)


def complain(message: str, hint: str) -> None:
    """Write an error and what to do about it."""
    red, plain = (
        ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    )
    with contextlib.suppress(OSError, ValueError):
        print(f"{red}error:{plain} {shown(message)}", file=sys.stderr, flush=True)
    if hint:
        say(f"\nhint: {hint}")
