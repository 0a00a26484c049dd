"""One download cache behind all homes: what an item sees of it, adds to it and reads from it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_tasks.errors import BatchError
from ci_tasks.settings import Cache

UNREAD = 1_000_000_000
"""Access time, in seconds, that marks a cache entry as not read yet (September 2001)."""
OWN = ".ci-tasks-"
"""How the names of our own files in a cache begin: probes, and entries that are not whole yet."""
STALE = 86_400.0
"""Seconds after which a file of ours is what a killed batch has left."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a cache; two entries are equal when nothing has written to the file."""

    size: int
    modified: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class Use:
    """Bytes of cache entries that an item added and read; `None` where that cannot be told."""

    added: int | None
    reused: int | None
    spoilt: int = 0
    """Shared entries that the item changed through a hard link, and that were thrown away."""


@dataclass(frozen=True, kw_only=True)
class Loan:
    """What one item sees of the cache."""

    folder: Path
    """What `{cache}` stands for."""
    mode: str
    """How the item has it; empty when its suite has no cache."""
    before: Mapping[str, Entry]
    """Entries that were there when the item started."""

    @property
    def shared(self) -> bool:
        return self.mode in ("variable", "symlink")


class Store:
    """The download cache of a project: a real folder of mode 0700, whose path holds no symbolic link."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = folder.resolve()
            self.folder.chmod(0o700)
            self.sees_reads = _sees_reads(self.folder)
        except OSError as error:
            raise BatchError(
                f"the download cache {folder} cannot be used: {error.strerror}",
                hint="it has to be a folder that you may write to",
            ) from None
        _sweep(self.folder)

    def size(self) -> int:
        return sum(entry.size for entry in entries(self.folder).values())


def entries(folder: Path) -> dict[str, Entry]:
    """Return every file below a folder, by path; what cannot be read is left out, links are not followed."""
    return {path: Entry(size=s.st_size, modified=s.st_mtime_ns, inode=s.st_ino) for path, s in _walk(folder)}


def _walk(folder: Path, *, own: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    pending = [os.fspath(folder)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.name.startswith(OWN) == own:
                    with contextlib.suppress(OSError):
                        yield entry.path, entry.stat(follow_symlinks=False)


def _sweep(folder: Path) -> None:
    """Remove what killed batches have left of entries that were not whole yet."""
    for path, status in _walk(folder, own=True):
        if time.time() - status.st_mtime > STALE:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108  # a string already


def _sees_reads(folder: Path) -> bool:
    """Tell whether reading a file here moves its access time: not so where `noatime` is set."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=OWN) as probe:
        probe.write(b"x")
        probe.flush()
        os.utime(probe.name, (UNREAD, os.stat(probe.name).st_mtime))  # noqa: PTH116  # one call, no Path made
        Path(probe.name).read_bytes()
        return _was_read(probe.name)


def _was_read(path: str) -> bool:
    try:
        return int(os.stat(path).st_atime) != UNREAD  # noqa: PTH116  # called for every cache entry
    except OSError:  # gone meanwhile
        return False


def lend(home: Path, cache: Cache | None, store: Store) -> Loan:
    """Give a home the cache as its suite wants it."""
    if cache is None:
        return Loan(folder=store.folder, mode="", before={})
    inside = home / cache.path if cache.path and cache.mode != "variable" else store.folder
    if cache.mode == "symlink":
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.symlink_to(store.folder, target_is_directory=True)
    elif cache.mode in ("copy", "hardlink"):
        inside.mkdir(mode=0o700, parents=True, exist_ok=True)
        _fill(store.folder, inside, link=cache.mode == "hardlink")
    before = entries(store.folder if cache.mode == "symlink" else inside)
    if store.sees_reads:
        for path, entry in before.items():
            with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
                os.utime(path, ns=(UNREAD * 10**9, entry.modified))
    return Loan(folder=inside, mode=cache.mode, before=before)


def _fill(source: Path, target: Path, *, link: bool) -> None:
    """Copy or link every entry into a home; links fall back to copies on another disk."""
    for path in entries(source):
        place = target / Path(path).relative_to(source)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if link:
            with contextlib.suppress(OSError):
                os.link(path, place, follow_symlinks=False)
                continue
        shutil.copy2(path, place)


def settle(loan: Loan, store: Store, *, passed: bool, alone: bool) -> Use:
    """Measure what an item did to the cache, and take what it added into the shared one.

    :param passed: only an item that passed may give to a cache that it had a copy of
    :param alone: whether no other item ran meanwhile; otherwise a shared file tells nothing about one item
    """
    if not loan.mode or (loan.shared and not alone):
        return Use(added=None, reused=None)
    after = entries(store.folder if loan.shared else loan.folder)
    new = [path for path, entry in after.items() if loan.before.get(path) != entry]
    reused = None
    if store.sees_reads and (alone or loan.mode == "copy"):
        same = (path for path, entry in after.items() if loan.before.get(path) == entry)
        reused = sum(after[path].size for path in same if _was_read(path))
    if loan.shared:
        return Use(added=sum(after[path].size for path in new), reused=reused)
    spoilt = [path for path in new if path in loan.before and loan.before[path].inode == after[path].inode]
    if loan.mode == "hardlink":
        for path in spoilt:
            _place(path, loan, store).unlink(missing_ok=True)
    given = [
        path for path in new if passed and path not in spoilt and _publish(path, _place(path, loan, store))
    ]
    return Use(
        added=sum(after[path].size for path in given),
        reused=reused,
        spoilt=len(spoilt) if loan.mode == "hardlink" else 0,
    )


def _place(path: str, loan: Loan, store: Store) -> Path:
    return store.folder / Path(path).relative_to(loan.folder)


def _publish(source: str, target: Path) -> bool:
    """Put a file into the shared cache at once or not at all; an entry that is there stays as it is."""
    if target.exists():
        return False
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=OWN, delete=False) as part:
        partial = Path(part.name)
    try:
        shutil.copy2(source, partial)
        os.link(partial, target)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True
