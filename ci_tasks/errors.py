"""Every failure a user can act on, its exit code and its hint."""

from __future__ import annotations

VERSION = "0.1.0"
"""Of ci_tasks."""

PASSED = 0
FAILED = 1
"""Items failed, or a rendered file is stale."""
USAGE = 2
"""The user can fix it: configuration, revision, argument, a lock held."""
BUG = 3
"""A fault in ci_tasks itself."""
SIGNALLED = 128
"""Added to the number of the signal that ended the run."""


class CiTasksError(Exception):
    """A failure with a message that says what is wrong and a hint that says what to do."""

    exit_code = USAGE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CiTasksError):
    """`ci.toml` cannot be used; `problems` holds all of its mistakes, one line each."""

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__("\n".join([message, *(f"  {problem}" for problem in problems)]), hint=hint)
        self.problems = problems


class GitError(CiTasksError):
    """Git is missing, failed, or does not know a revision."""


class ItemsError(CiTasksError):
    """The items of a suite cannot be read, or an item that was asked for does not exist."""


class PlanError(CiTasksError):
    """A plan cannot be made, or a plan file cannot be used."""


class RenderError(CiTasksError):
    """A template does not produce the pipeline it was given."""


class BatchError(CiTasksError):
    """A batch cannot start here: another platform, a variable that is not set, no room."""
