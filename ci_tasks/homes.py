"""A fresh home per item, and the variables that lead there."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_tasks import cache, process
from ci_tasks.settings import Cache

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
class Home:
    """A fresh home that an item runs in, absolute and without symbolic links."""

    folder: Path
    loan: cache.Loan


def make(folder: Path, wanted: Cache | None, store: cache.Store) -> Home:
    """Make a fresh home, with the cache in it as the suite wants it.

    :raises OSError: when it cannot be made
    """
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102  # once for every item
    except FileNotFoundError:  # an item has removed the folder of all homes
        folder.parent.mkdir(mode=0o700)
        folder.mkdir(mode=0o700)
    os.mkdir(f"{folder}/tmp", 0o700)  # noqa: PTH102, S108  # likewise, and a folder of the home
    return Home(folder=folder, loan=cache.lend(folder, wanted, store))


def parent(place: str = "") -> Path:
    """Make the folder that the homes of one batch lie in: short, real, readable by nobody else.

    :param place: where to make it; empty for the system's folder for temporary files
    """
    return Path(tempfile.mkdtemp(prefix="ci-tasks-", dir=Path(place or tempfile.gettempdir()).resolve()))


def slug(name: str, number: int) -> str:
    """Return a folder or file name that no item name can make unsafe: at most 60 letters of ASCII."""
    return f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:50].strip('._') or 'item'}"


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
