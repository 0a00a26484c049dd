"""Which paths differ between two revisions; the only module that knows git.

Git is asked through GitPython's command interface and its `-z` output is parsed here: GitPython's own
object diff is slow, and one name that is not UTF-8 makes it return nothing
(https://github.com/gitpython-developers/GitPython, `Commit.diff`).
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci_tasks.errors import GitError
from ci_tasks.providers import Base

if TYPE_CHECKING:
    from git.cmd import Git

STATUSES = {"A": "added", "D": "deleted", "M": "modified", "T": "changed its type", "U": "unmerged"}
"""Status letters that `git diff --raw --no-renames` prints."""

_RAW = (
    "-r",
    "--raw",
    "-z",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-relative",
    "--ignore-submodules=dirty",
)
COMMAND = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
"""No setting of a repository can make it print paths in another form, or watch files by another program."""

SUBMODULE = "160000 "
"""Mode of an entry of a tree that is a commit of another repository, and so no file."""

_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Listing(threading.Thread):
    """Lists files beside the caller, while another git says what changed; `files` waits for the list."""

    def __init__(self, repository: Repository, head: str, below: Sequence[str]) -> None:
        super().__init__(name="listing", daemon=True)
        self._repository = repository
        self._head = head
        self._below = below
        self._found: Mapping[str, str] = {}
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            head = self._repository.resolve(self._head) if self._head else ""
            self._found = self._repository.files(head, below=self._below)
        except Exception as error:  # noqa: BLE001  # raised again where the list is wanted
            self._error = error

    def files(self) -> Mapping[str, str]:
        """Return what `Repository.files` returns, or raise what it raises."""
        self.join()
        if self._error:
            raise self._error
        return self._found


@dataclass(frozen=True, kw_only=True)
class Change:
    path: str
    """Relative to the project's root, `/` between folders; bytes that are no UTF-8 as surrogates."""
    status: str
    """One of the values of `STATUSES`, or `untracked`."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    base: str
    """Full name of the merge base; empty when everything counts as changed."""
    head: str
    """Full name of the newer commit; of `HEAD` when the work tree is what counts."""
    worktree: bool
    """Whether uncommitted and untracked files were looked at too."""
    because: str
    """Why this base was taken."""
    files: tuple[Change, ...]


class Repository:
    """The repository that a project's root lies in; paths go in and out relative to that root.

    :raises GitError: when git is missing, or the root is in no repository with a work tree.
    """

    def __init__(self, root: Path) -> None:
        try:
            from git.cmd import Git  # noqa: PLC0415  # 0.1 s, and it raises where git is not installed
            from git.exc import GitCommandNotFound  # noqa: PLC0415
        except ImportError:
            raise GitError("git is not installed, or not on PATH", hint="install git 2.30 or newer") from None
        self._git: Git = Git(root)
        self._unstartable = (OSError, GitCommandNotFound)
        inside, _, prefix = self._run("rev-parse", "--is-inside-work-tree", "--show-prefix").partition(b"\n")
        if inside != b"true":
            raise GitError(
                f"{root} is in a bare repository, which has no files",
                hint="clone it, and run this in the clone",
            )
        self._prefix = os.fsdecode(prefix.removesuffix(b"\n"))
        self._root = root

    def resolve(self, revision: str) -> str:
        """Return the full name of the commit that a revision stands for."""
        if not revision or revision.startswith("-") or "\0" in revision:
            raise GitError(f"{revision!r} is not a revision", hint="give a branch, a tag or a commit")
        status, out, _ = self._ask(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        )
        name = out.decode("ascii", "replace").strip()
        if status or not _OBJECT.fullmatch(name):
            raise GitError(f"git does not know the revision `{revision}`", hint=self._revision_hint(revision))
        return name

    def _revision_hint(self, revision: str) -> str:
        if revision == "HEAD":
            return "this repository has no commit yet: make the first one"
        if self.shallow:
            return "this clone is shallow: set `fetch-depth: 0` in CI, or run `git fetch --unshallow`"
        if revision.startswith("origin/"):
            return f"fetch it first: git fetch origin {revision.removeprefix('origin/')}"
        return "`git log --oneline -5` and `git branch --all` show what there is"

    @property
    def shallow(self) -> bool:
        return self._run("rev-parse", "--is-shallow-repository").strip() == b"true"

    def known(self, revision: str) -> bool:
        try:
            self.resolve(revision)
        except GitError:
            return False
        return True

    def merge_base(self, base: str, head: str) -> str:
        status, out, err = self._ask("merge-base", base, head)
        if status == 0:
            return out.decode("ascii").strip()
        if status == 1 and self.shallow:
            raise GitError(
                f"no merge base between {base[:12]} and {head[:12]}: this clone is shallow",
                hint="set `fetch-depth: 0` in CI, or run `git fetch --unshallow`",
            )
        if status == 1:
            raise GitError(
                f"no merge base between {base[:12]} and {head[:12]}: their histories have nothing in common",
                hint="give another revision with --base",
            )
        raise _failed("merge-base", status, err)

    def default_base(self, head: str) -> Base:
        """Return what to compare with when nobody said: the remote's default branch, else the first parent."""
        status, out, _ = self._ask("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
        remote = out.decode("utf-8", "surrogateescape").strip().removeprefix("refs/remotes/")
        if status == 0 and self.known(remote):
            return Base(revision=remote, because=f"{remote}, the remote's default branch")
        for branch in ("origin/main", "origin/master"):
            if self.known(branch):
                return Base(revision=branch, because=f"{branch}, since origin/HEAD is not set")
        if self.known(f"{head}^"):
            return Base(revision=f"{head}^", because="the first parent, since there is no origin/HEAD")
        if self.shallow:
            raise GitError(
                "this clone is shallow, and holds nothing to compare with", hint=self._revision_hint(head)
            )
        return Base(revision="", because="nothing, since this is the first commit")

    def files(self, head: str = "", *, below: Sequence[str] = ("",)) -> Mapping[str, str]:
        """Return files and the name of each one's blob at `head`; without one, those of the work tree, names empty.

        :param below: the folders to look in, each with a `/` behind it; an empty one means everywhere
        """
        if not below:
            return {}
        places = [] if "" in below and not self._prefix else [f"{self._prefix}{folder}" for folder in below]
        if head:
            records = _records(self._run("ls-tree", "-r", "-z", "--full-tree", head, "--", *places))
            entries = [record.split("\t", 1) for record in records if not record.startswith(SUBMODULE)]
            tree = {path: entry[entry.rindex(" ") + 1 :] for entry, path in entries}
        else:
            wanted = [f":(top,literal){place}" for place in places] or [":/"]
            listing = self._run(
                "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--full-name", "--", *wanted
            )
            gone = set(_records(self._run("ls-files", "-z", "--deleted", "--full-name", "--", *wanted)))
            tree = {path: "" for path in _records(listing) if path not in gone}
        return self._inside(tree)

    def _inside(self, tree: dict[str, str]) -> dict[str, str]:
        if not self._prefix:
            return tree
        skip = len(self._prefix)
        return {path[skip:]: blob for path, blob in tree.items() if path.startswith(self._prefix)}

    def tracks(self, pattern: str) -> bool:
        """Tell whether a path pattern matches any tracked file; git's own `:(glob)` means the same as ours."""
        place = f":(top,glob){self._prefix}{pattern}"
        return self._ask("ls-files", "--error-unmatch", "-z", "--", place)[0] == 0

    def read(self, paths: Sequence[str], files: Mapping[str, str]) -> Iterator[bytes | None]:
        """Yield the content of each file: of its blob, by one `git cat-file --batch`, else from the work tree.

        Contents come while git still reads the next ones; `None` stands for a file that cannot be read.

        :param files: what `files` returned
        """
        blobs = self._blobs([files[path] for path in paths if files.get(path)])
        for path in paths:
            blob = files.get(path)
            if blob:
                yield next(blobs)
            else:
                yield _content(self._root / path) if blob == "" else None

    def _blobs(self, names: list[str]) -> Iterator[bytes]:
        if not names:
            return
        with tempfile.TemporaryFile() as stdin:
            stdin.write("".join(f"{name}\n" for name in names).encode("ascii"))
            stdin.seek(0)
            process = self._git.execute(
                [*COMMAND, "cat-file", "--batch", "--buffer"], istream=stdin.fileno(), as_process=True
            )
            out = process.stdout
            for name in names:
                header = out.readline().split(b" ")
                if len(header) != 3 or not header[2].strip().isdigit():  # noqa: PLR2004  # <name> <type> <size>
                    raise GitError(f"git cat-file cannot read {name}", hint="try `git fsck`")
                content = out.read(int(header[2]) + 1)
                if len(content) != int(header[2]) + 1:
                    raise GitError("unexpected end of git's output", hint="try `git fsck`")
                yield content[:-1]
            if process.wait():
                raise GitError("git cat-file failed after its last file", hint="try `git fsck`")

    def compare(self, base: str, head: str = "") -> tuple[Change, ...]:
        """Return what differs between two commits, or between a commit and the work tree."""
        if head:
            found = _raw_changes(self._run("diff-tree", *_RAW, base, head, "--"))
        else:
            found = _raw_changes(self._run("diff", *_RAW[1:], base, "--"))
            others = self._run("ls-files", "-z", "--others", "--exclude-standard", "--full-name", "--", ":/")
            untracked = set(_records(others))
            found = [change for change in found if change.path not in untracked]
            found += [Change(path=path, status="untracked") for path in untracked if not path.endswith("/")]
        if self._prefix:
            skip = len(self._prefix)
            found = [
                Change(path=c.path[skip:], status=c.status) for c in found if c.path.startswith(self._prefix)
            ]
        return tuple(sorted(found, key=lambda change: change.path))

    def _run(self, *arguments: str, stdin: int | None = None) -> bytes:
        status, out, err = self._ask(*arguments, stdin=stdin)
        if status:
            raise _failed(arguments[0], status, err)
        return out

    def _ask(self, *arguments: str, stdin: int | None = None) -> tuple[int, bytes, str]:
        try:
            status, out, err = self._git.execute(
                [*COMMAND, *arguments],
                istream=stdin,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        except self._unstartable as error:
            raise GitError(
                f"git cannot be started: {str(error).strip().splitlines()[0]}",
                hint="install git 2.30 or newer",
            ) from None
        return int(status), bytes(out), err if isinstance(err, str) else err.decode("utf-8", "replace")


def between(repository: Repository, base: Base | None, head: str = "") -> Changes:
    """Return what changed since the merge base of `base` and `head`.

    :param base: what to compare with; `None` for the default of the repository
    :param head: the newer revision; empty for the work tree as it is
    :raises GitError: when a revision is unknown, there is no merge base, or git fails
    """
    newest = repository.resolve(head or "HEAD")
    base = _usable(repository, base or repository.default_base(newest), newest)
    revision, because = base.revision, base.because
    if not revision:
        return Changes(base="", head=newest, worktree=not head, because=because, files=())
    merge_base = repository.merge_base(repository.resolve(revision), newest)
    files = repository.compare(merge_base, newest if head else "")
    return Changes(base=merge_base, head=newest, worktree=not head, because=because, files=files)


def _usable(repository: Repository, base: Base, newest: str) -> Base:
    """Replace a base that is not in this clone by its fallback, else by everything; a given one is a mistake."""
    if not base.revision or base.given or repository.known(base.revision) or repository.shallow:
        return base
    why = f"since {base.revision[:12]} is not in this clone (a force-push, or a first commit?)"
    if base.fallback and repository.known(base.fallback) and repository.resolve(base.fallback) != newest:
        return Base(revision=base.fallback, because=f"{base.fallback}, {why}")
    return Base(revision="", because=f"nothing, {why}")


def _raw_changes(out: bytes) -> list[Change]:
    """Parse `:<mode> <mode> <blob> <blob> <letter>NUL<path>NUL`, repeated."""
    fields = _records(out)
    if len(fields) % 2:
        raise GitError(
            "unexpected end of git's output: a change without its path", hint="run the command again"
        )
    found = []
    for entry, path in zip(fields[::2], fields[1::2], strict=True):
        letter = entry[entry.rindex(" ") + 1 :][:1] if entry.startswith(":") and " " in entry else ""
        if letter not in STATUSES:
            raise GitError(
                f"git printed a change that cannot be read: {entry!r}", hint="run the command again"
            )
        found.append(Change(path=path, status=STATUSES[letter]))
    return found


def _records(out: bytes) -> list[str]:
    """Split NUL-terminated records.

    :raises GitError: when the last one is cut off
    """
    if out and not out.endswith(b"\0"):
        raise GitError("unexpected end of git's output", hint="run the command again; is the disk full?")
    return os.fsdecode(out).split("\0")[:-1]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _failed(command: str, status: int, err: str) -> GitError:
    """Turn git's own words into an error with the remedy that fits."""
    text = err.strip()
    if "dubious ownership" in text:
        remedy = re.search(r"git config --global --add safe\.directory .*", text)
        return GitError(
            "git refuses this repository: it belongs to another user",
            hint=remedy[0].strip() if remedy else "see safe.directory in `git help config`",
        )
    if "not a git repository" in text:
        return GitError("this folder is in no git repository", hint="run `git init`, or change into a clone")
    if "must be run in a work tree" in text:
        return GitError(
            "this is a bare repository, which has no files", hint="clone it, and run this in the clone"
        )
    if "bad object" in text or "unknown revision" in text:
        return GitError(
            f"git {command}: {text.splitlines()[0]}", hint="is the clone shallow? `git fetch --unshallow`"
        )
    detail = text.splitlines()[-1] if text else "it printed no error"
    return GitError(
        f"git {command} failed with exit code {status}: {detail}",
        hint="run the command again with GIT_TRACE=1",
    )
