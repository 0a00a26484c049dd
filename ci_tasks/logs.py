"""A log file of bounded size: its head and its tail are kept, what lies between is counted."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from types import TracebackType

HEAD = 8 * 2**20
"""Bytes kept from the start of an item's output."""
TAIL = 2 * 2**20
"""Bytes kept from its end, in memory until the item has ended."""


class Log:
    """Takes an item's output as it comes. A disk that is full stops the log, never the item."""

    def __init__(self, path: Path, *, head: int = HEAD, tail: int = TAIL) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        self._head = head
        self._head_left = head
        self._tail_limit = tail
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.size = 0
        """Bytes that were given to the log."""
        self.failure = ""
        """Why the file is not complete, in the words of the operating system; empty when it is."""

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._head_left:
            self._put(chunk[: self._head_left])
            chunk, self._head_left = chunk[self._head_left :], max(self._head_left - len(chunk), 0)
        if chunk:
            self._tail.append(chunk)
            self._tail_size += len(chunk)
            while self._tail_size - len(self._tail[0]) >= self._tail_limit:
                self._tail_size -= len(self._tail.popleft())

    def close(self) -> None:
        if self._tail:
            kept = b"".join(self._tail)[-self._tail_limit :]
            cut = self.size - self._head - len(kept)
            if cut:
                self._put(b"\n[ci_tasks: %d bytes of output were cut here]\n" % cut)
            self._put(kept)
        os.close(self._descriptor)

    def _put(self, data: bytes) -> None:
        """Write all of it; a short write comes before the error that a full disk raises."""
        while data and not self.failure:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                self.failure = error.strerror or str(error)


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """Return the last lines of a log that hold anything, as text; none when it cannot be read."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - 400 * lines, 0))
            data = stream.read()
    except OSError:
        return ()
    found = [line.rstrip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return tuple(found[-lines:])
