"""The items of a suite, and the platforms each supports."""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ci_tasks import patterns
from ci_tasks.errors import ItemsError
from ci_tasks.settings import Suite


@dataclass(frozen=True, kw_only=True)
class Item:
    name: str
    path: str
    """Relative to the project's root; empty for an item that is no file."""
    platforms: tuple[str, ...]
    args: tuple[str, ...] = ()
    version: str = ""
    depends: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An item that will not run: on `platform`, or nowhere when that is empty."""

    name: str
    path: str
    platform: str
    because: str


NO_FIELDS: Mapping[str, str | None] = {}
"""Of a pattern without placeholders."""


class Finder:
    """Tells which paths are items of a suite: one pass of its `include` and `exclude` patterns."""

    def __init__(self, suite: Suite, platforms: Sequence[str]) -> None:
        self._suite = suite
        self._known = [
            (pattern, patterns.compiled(pattern, platforms).fullmatch) for pattern in suite.include
        ]
        self._any = [
            (pattern, patterns.compiled(pattern).fullmatch)
            for pattern in suite.include
            if "{platform}" in pattern
        ]
        self._excluded = patterns.Matcher(suite.exclude)
        self.matched: set[str] = set()
        """Patterns of `include` that a path has matched so far."""

    def find(self, path: str) -> Item | LeftOut | None:
        """Return the item that a path is, why it is none although a pattern matches, or `None`."""
        for pattern, fullmatch in self._known:
            match = fullmatch(path)
            if match:
                self.matched.add(pattern)
                return self._item(path, match.groupdict() if match.re.groups else NO_FIELDS)
        for pattern, fullmatch in self._any:
            match = fullmatch(path)
            if match:
                self.matched.add(pattern)
                name = match.groupdict().get("name") or stem(path)
                platform = match["platform"]
                because = f"its platform `{platform}` is not in ci.toml"
                return LeftOut(name=name, path=path, platform=platform, because=because)
        return None

    def matches(self, path: str) -> bool:
        """Tell whether a path is an item; quicker than `find`."""
        for pattern, fullmatch in self._known:
            if fullmatch(path):
                self.matched.add(pattern)
                return not self._excluded.first(path)
        self.matched.update(pattern for pattern, fullmatch in self._any if fullmatch(path))
        return False

    def _item(self, path: str, fields: Mapping[str, str | None]) -> Item | LeftOut:
        name = fields.get("name") or stem(path)
        excluded = self._excluded.first(path)
        if excluded:
            return LeftOut(name=name, path=path, platform="", because=f"`exclude` has `{excluded}`")
        platform = fields.get("platform")
        if platform and platform not in self._suite.platforms:
            because = f"the suite does not run on `{platform}`"
            return LeftOut(name=name, path=path, platform=platform, because=because)
        platforms = (platform,) if platform else self._suite.platforms
        return Item(name=name, path=path, platforms=platforms, version=fields.get("version") or "")


def stem(path: str) -> str:
    """Return the file's name without its last suffix: `llama.cpp` for `recipes/l/llama.cpp.toml`."""
    return posixpath.splitext(posixpath.basename(path))[0]


def fixed(suite: Suite, run: Callable[[tuple[str, ...]], str]) -> tuple[Item, ...]:
    """Return the items of a fixed list.

    :param run: runs the words of `items-from` in the project's root and returns what they print
    :raises ItemsError: when the output is no JSON lines of items, or two items have the same name
    """
    if not suite.items_from:
        return tuple(
            Item(
                name=item.name,
                path=item.path,
                args=item.args,
                platforms=item.platforms if item.platforms is not None else suite.platforms,
            )
            for item in suite.items
        )
    source = f"suites.{suite.name}.items-from"
    lines = enumerate(run(suite.items_from).split("\n"), start=1)
    found = tuple(_printed(suite, f"{source}: line {number}", line) for number, line in lines if line.strip())
    seen: set[str] = set()
    for item in found:
        if item.name in seen:
            raise ItemsError(
                f"{source}: `{item.name}` is printed twice", hint="give each item a name of its own"
            )
        seen.add(item.name)
    return found


def _printed(suite: Suite, place: str, line: str) -> Item:
    """Read one line: `{"name": …, "path": …, "args": … or […], "platforms": […]}`, or a name alone."""
    hint = 'print one JSON value per line: "name", or {"name": "…", "path": "…", "args": ["…"], "platforms": ["…"]}'
    try:
        value = json.loads(line)
    except ValueError:
        raise ItemsError(f"{place} is not JSON: {line[:80]!r}", hint=hint) from None
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ItemsError(f"{place} has no `name`: {line[:80]!r}", hint=hint)
    args, platforms, path = (
        value.get("args", []),
        value.get("platforms", list(suite.platforms)),
        value.get("path", ""),
    )
    if isinstance(args, str):
        try:
            args = shlex.split(args)
        except ValueError as error:
            raise ItemsError(
                f"{place}: `args` cannot be split into words: {str(error).lower()}", hint=hint
            ) from None
    if not _is_texts(args) or not _is_texts(platforms) or not isinstance(path, str):
        raise ItemsError(
            f"{place}: `args` and `platforms` are lists of strings, `path` is a string", hint=hint
        )
    unknown = sorted(set(platforms) - set(suite.platforms))
    if unknown:
        raise ItemsError(
            f"{place}: the suite has no platform `{unknown[0]}`", hint=f"it has {', '.join(suite.platforms)}"
        )
    return Item(name=value["name"], path=path, args=tuple(args), platforms=tuple(platforms))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
