"""A fresh home per item, one download cache behind all of them."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_tasks import process
from ci_tasks.errors import BatchError
from ci_tasks.settings import Cache

UNREAD = 1_000_000_000
"""Access time, in seconds, that marks a cache entry as not read yet (September 2001)."""

ALLOWED = (
    "PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "USER", "LOGNAME", "SHELL", "CI",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "DEVELOPER_DIR", "SDKROOT", "MACOSX_DEPLOYMENT_TARGET",
)  # fmt: skip
"""Variables that every item gets from us: what a program needs to find programs, speak and reach the network."""

QUIET = {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "DEBIAN_FRONTEND": "noninteractive"}
"""Keeps the usual programs from asking a person."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a cache; two entries are equal when nothing has written to the file."""

    size: int
    modified: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """Bytes of cache entries that an item added and read; `None` where that cannot be told."""

    added: int | None
    reused: int | None


class Store:
    """The download cache of a project: a real folder of mode 0700, whose path holds no symbolic link."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = folder.resolve()
            self.folder.chmod(0o700)
            self.sees_reads = _sees_reads(self.folder)
        except OSError as error:
            hint = "free the path, or give the cache another user's rights back"
            raise BatchError(
                f"the download cache {folder} cannot be used: {error.strerror}", hint=hint
            ) from None

    def size(self) -> int:
        return sum(entry.size for entry in entries(self.folder).values())


@dataclass(frozen=True, kw_only=True)
class Home:
    """A fresh home that an item runs in, absolute and without symbolic links."""

    folder: Path
    cache: Path
    """What `{cache}` stands for."""
    before: Mapping[str, Entry]
    """Cache entries that were there when the item started."""
    mode: str


def entries(folder: Path) -> dict[str, Entry]:
    """Return every file below a folder, by path; symbolic links are not followed."""
    found: dict[str, Entry] = {}
    pending = [os.fspath(folder)]
    while pending:
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.path] = Entry(
                            size=status.st_size, modified=status.st_mtime_ns, inode=status.st_ino
                        )
    return found


def _sees_reads(folder: Path) -> bool:
    """Tell whether reading a file here moves its access time: not so where `noatime` is set."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".ci-tasks-probe-") as probe:
        probe.write(b"x")
        probe.flush()
        os.utime(probe.name, (UNREAD, os.stat(probe.name).st_mtime))  # noqa: PTH116  # one call, no Path made
        Path(probe.name).read_bytes()
        return _was_read(probe.name)


def _was_read(path: str) -> bool:
    return int(os.stat(path).st_atime) != UNREAD  # noqa: PTH116  # called for every cache entry


def _mark_unread(found: Mapping[str, Entry]) -> None:
    for path, entry in found.items():
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.utime(path, ns=(UNREAD * 10**9, entry.modified))


def parent(place: str = "") -> Path:
    """Make the folder that the homes of one batch lie in: short, real, readable by nobody else.

    :param place: where to make it; empty for the system's folder for temporary files
    """
    return Path(tempfile.mkdtemp(prefix="ci-tasks-", dir=Path(place or tempfile.gettempdir()).resolve()))


def slug(name: str, number: int) -> str:
    """Return a folder or file name that no item name can make unsafe: at most 60 letters of ASCII."""
    return f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:50].strip('._') or 'item'}"


def make(folder: Path, cache: Cache | None, store: Store) -> Home:
    """Make a fresh home, with the cache in it as the suite wants it."""
    os.mkdir(folder, 0o700)  # noqa: PTH102  # once for every item
    os.mkdir(f"{folder}/tmp", 0o700)  # noqa: PTH102, S108  # likewise, and a folder of the home
    mode = cache.mode if cache else "variable"
    inside = folder / cache.path if cache and cache.path and mode != "variable" else store.folder
    if mode == "symlink":
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.symlink_to(store.folder, target_is_directory=True)
    elif mode in ("copy", "hardlink"):
        inside.mkdir(mode=0o700, parents=True, exist_ok=True)
        _fill(store.folder, inside, link=mode == "hardlink")
    before = entries(store.folder if mode == "symlink" else inside)
    if store.sees_reads:
        _mark_unread(before)
    return Home(folder=folder, cache=inside, before=before, mode=mode)


def _fill(source: Path, target: Path, *, link: bool) -> None:
    """Copy or link every file of the cache into a home; links fall back to copies on another disk."""
    for path in entries(source):
        place = target / Path(path).relative_to(source)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _place(path, place, link=link)


def _place(source: str, place: Path, *, link: bool) -> None:
    if link:
        with contextlib.suppress(OSError):
            os.link(source, place, follow_symlinks=False)
            return
    shutil.copy2(source, place)


def settle(home: Home, store: Store, *, passed: bool, alone: bool) -> CacheUse:
    """Measure what an item did to the cache, and take what it added into the shared one.

    :param passed: only an item that passed may give to a cache that it had a copy of
    :param alone: whether no other item ran meanwhile; otherwise a shared cache tells nothing about one item
    """
    shared = home.mode in ("variable", "symlink")
    after = entries(store.folder if shared else home.cache)
    if shared and not alone:
        return CacheUse(added=None, reused=None)
    new = [path for path, entry in after.items() if home.before.get(path) != entry]
    reused = None
    if store.sees_reads:
        same = (path for path, entry in after.items() if home.before.get(path) == entry)
        reused = sum(after[path].size for path in same if _was_read(path))
    if passed and not shared:
        for path in new:
            _publish(Path(path), store.folder / Path(path).relative_to(home.cache))
    return CacheUse(added=sum(after[path].size for path in new), reused=reused)


def _publish(source: Path, target: Path) -> None:
    """Put a file into the shared cache at once or not at all; an entry that is there stays as it is."""
    if target.exists():
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".ci-tasks-", delete=False) as part:
        partial = Path(part.name)
    try:
        shutil.copy2(source, partial)
        with contextlib.suppress(FileExistsError):
            os.link(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def remove(folder: Path) -> str:
    """Remove a home, read-only folders in it included; nothing outside is touched, links are not followed.

    :returns: why something is left, or nothing
    """
    try:
        _remove(os.fspath(folder))
    except OSError:
        _unlock(folder)
        return process.complaint(("/bin/rm", "-rf", "--", os.fspath(folder)))  # goes as deep as an item went
    return ""


class Remover:
    """Removes homes in the background, in order, while the next items run."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Path | None] = queue.Queue(
            maxsize=100
        )  # the disk fills no faster than it is emptied
        self._left: dict[Path, str] = {}
        self._thread = threading.Thread(target=self._work, name="remover", daemon=True)
        self._thread.start()

    def remove(self, folder: Path) -> None:
        self._waiting.put(folder)

    def close(self) -> dict[Path, str]:
        """Wait until every home is removed; return those that could not be, and why."""
        self._waiting.put(None)
        self._thread.join()
        return self._left

    def _work(self) -> None:
        while (folder := self._waiting.get()) is not None:
            reason = remove(folder)
            if reason:
                self._left[folder] = reason


def _remove(folder: str) -> None:
    """Remove a tree, for half of what `shutil.rmtree` costs; the processes that could race with us have ended."""
    folders = [folder]
    for current in folders:
        with os.scandir(current) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108  # called for every file of every home
    for current in reversed(folders):
        os.rmdir(current)  # noqa: PTH106  # likewise


def _unlock(folder: Path) -> None:
    """Give ourselves every right to the folders of a tree; what a link points to keeps its mode."""
    pending = [os.fspath(folder)]
    while pending:
        current = pending.pop()
        with contextlib.suppress(OSError):  # what stays locked, rm names
            os.chmod(current, stat.S_IRWXU)  # noqa: PTH101  # a string, so that no Path is made for each folder
            with os.scandir(current) as listing:
                pending += [entry.path for entry in listing if entry.is_dir(follow_symlinks=False)]


def allowed(environ: Mapping[str, str], pass_env: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of ours that every item of a suite gets.

    :param pass_env: names to pass on, `NAME?` when it may be unset, or `PREFIX_*`
    """
    given = {
        name: value for name, value in environ.items() if _passes(name, ALLOWED) or _passes(name, pass_env)
    }
    return given | QUIET


def environment(home: Home, variable: str) -> dict[str, str]:
    """Return the variables that point into an item's home.

    :param variable: the suite's own name for the home; empty for none
    """
    folder = os.fspath(home.folder)
    return {
        "HOME": folder,
        "CFFIXED_USER_HOME": folder,
        "TMPDIR": f"{folder}/tmp",  # noqa: S108  # a folder of the home
        "XDG_CONFIG_HOME": f"{folder}/.config",
        "XDG_CACHE_HOME": f"{folder}/.cache",
        "XDG_DATA_HOME": f"{folder}/.local/share",
        "XDG_STATE_HOME": f"{folder}/.local/state",
        **({variable: folder} if variable else {}),
    }


def _passes(name: str, allowed: tuple[str, ...]) -> bool:
    return any(
        name.startswith(entry[:-1]) if entry.endswith("*") else name == entry.removesuffix("?")
        for entry in allowed
    )


def unset(environ: Mapping[str, str], pass_env: tuple[str, ...]) -> Iterator[str]:
    """Yield the names that have to be set and are not."""
    return (name for name in pass_env if name[-1] not in "?*" and not environ.get(name))
