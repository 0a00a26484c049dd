"""What has finished so far, on disk, so that a kill loses nothing that was done."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

VERSION = 1

STATE = ".ci-tasks"
"""Folder in the project's root that holds the plan, the cache and the runs; git ignores it by itself."""


def state(root: Path) -> Path:
    """Return the project's own state folder, made so that git does not see it."""
    folder = root / STATE
    folder.mkdir(exist_ok=True)
    if not (folder / ".gitignore").exists():
        replace(folder / ".gitignore", "*\n")
    return folder


class Journal:
    """JSON lines: first what the batch is, then one record for each item that has ended.

    Every record is one write to a file opened for appending, so a kill can tear the last one at most.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        self.failure = ""
        """Why the journal is not complete; empty when it is."""

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def record(self, values: Mapping[str, Any]) -> None:
        line = json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            while line and not self.failure:
                line = line[os.write(self._descriptor, line) :]  # a short write comes before «no space left»
        except OSError as error:
            self.failure = f"the journal is not complete: {error.strerror}"


def replace(path: Path, text: str) -> None:
    """Write a file at once or not at all: a reader sees the old text or the new, never a part.

    :raises OSError: when it cannot be written; the old file is then as it was
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w",
        encoding="utf-8",
        errors="backslashreplace",
        newline="",
        dir=path.parent,
        prefix=f".{path.name}-",
        delete=False,
    ) as part:
        partial = Path(part.name)
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        partial.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
