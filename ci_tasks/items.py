"""The items of a suite, and the platforms each supports."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ci_tasks import patterns
from ci_tasks.config import Metadata, Platform, Suite
from ci_tasks.errors import ItemsError

LIBC = {"alpine": "musl"}
"""C library of the Linux families that do not use glibc; a platform without a family has none."""


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
        self._all = self._known + self._any
        self._excluded = patterns.Matcher(suite.exclude)
        self.matched: set[str] = set()
        """Patterns of `include` that a path has matched so far."""

    def find(self, path: str) -> Item | LeftOut | None:
        """Return the item that a path is, why it is none although a pattern matches, or `None`."""
        for pattern, fullmatch in self._known:
            match = fullmatch(path)
            if match:
                self.matched.add(pattern)
                return self._item(path, match.groupdict())
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
        """Tell whether a path is an item, or would be one but for its platform; quicker than `find`."""
        for pattern, fullmatch in self._all:
            if fullmatch(path):
                self.matched.add(pattern)
                return not self._excluded.first(path)
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
    lines = enumerate(run(suite.items_from).splitlines(), start=1)
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
        args = shlex.split(args)
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


Limits = tuple[tuple[str, ...] | None, ...]
"""The systems, architectures and exceptions that a file lists; `None` for a list that is not there."""


class Support:
    """Narrows items to the platforms that their own files allow; equal lists are judged once."""

    def __init__(self, metadata: Metadata, platforms: Mapping[str, Platform]) -> None:
        self._metadata = metadata
        self._platforms = platforms
        self._verdicts: dict[tuple[tuple[str, ...], Limits], tuple[str, ...]] = {}

    def narrow(self, item: Item, content: bytes | None) -> tuple[Item, tuple[LeftOut, ...], str]:
        """Return the item, why it is left out on its other platforms, and a warning (empty for none).

        A file that cannot be read or parsed narrows nothing: its item fails where it runs, and is seen.

        :param content: the file; `None` when it could not be read
        """
        try:
            values = parsed(item.path, content)
        except ValueError as error:
            return item, (), f"{item.path}: {error}; taken to support every platform of its suite"
        limits = (
            _texts(_lookup(values, self._metadata.os)),
            _texts(_lookup(values, self._metadata.arch)),
            _texts(_lookup(values, self._metadata.exceptions)),
        )
        reasons = self._verdict(item.platforms, limits)
        kept, left_out = item.platforms, tuple[LeftOut, ...]()
        if any(reasons):
            left_out = tuple(
                LeftOut(name=item.name, path=item.path, platform=name, because=because)
                for name, because in zip(item.platforms, reasons, strict=True)
                if because
            )
            kept = tuple(name for name, because in zip(item.platforms, reasons, strict=True) if not because)
        depends = _texts(_lookup(values, self._metadata.depends)) or ()
        if kept == item.platforms and depends == item.depends:
            return item, left_out, ""
        narrowed = Item(name=item.name, path=item.path, platforms=kept, version=item.version, depends=depends)
        return narrowed, left_out, ""

    def _verdict(self, names: tuple[str, ...], limits: Limits) -> tuple[str, ...]:
        """Say for each platform why it is not supported; nothing where it is."""
        key = (names, limits)
        if key not in self._verdicts:
            self._verdicts[key] = tuple(
                _unsupported(limits, self._metadata, self._platforms[name]) for name in names
            )
        return self._verdicts[key]


def parsed(path: str, content: bytes | None) -> dict[str, Any]:
    """Parse a TOML, JSON or YAML file by its suffix.

    :raises ValueError: with a reason in words, when there is nothing to read or it cannot be parsed
    """
    if content is None:
        raise ValueError("cannot be read")
    suffix = posixpath.splitext(path)[1]
    try:
        text = content.decode("utf-8")
        values = _PARSERS[suffix](text)
    except KeyError:
        raise ValueError(f"`metadata` is read from .toml, .json and .yaml files, not `{suffix}`") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be parsed: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise ValueError("holds no table at its top level")  # noqa: TRY004  # the file is wrong, not our type
    return values


Exclusions = Mapping[str, list[tuple[tuple[str, ...], str]]]
"""For each name, the platforms that an item is excluded on (none: all of them) and why."""


def exclusions(suite: Suite, content: bytes | None) -> Exclusions:
    """Read a suite's exclusions file.

    The file holds `{"exclusions": [{"item": …, "platforms": […], "reason": …, "issue": …}]}`, where `item`
    may be called `name` or `recipe`, and `platforms` may be left out or be one `platform`.

    :raises ItemsError: when it cannot be read, or an entry has no name or no reason
    """
    place = f"suites.{suite.name}.exclusions ({suite.exclusions})"
    hint = (
        '{"exclusions": [{"item": "jq", "platforms": ["darwin-arm64"], "reason": "…", "issue": "https://…"}]}'
    )
    try:
        entries = parsed(suite.exclusions, content).get("exclusions")
    except ValueError as error:
        raise ItemsError(f"{place} {error}", hint=hint) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ItemsError(f"{place} has no list `exclusions`", hint=hint)
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for index, entry in enumerate(entries):
        name = next((entry[key] for key in ("item", "name", "recipe") if isinstance(entry.get(key), str)), "")
        because = " ".join(str(entry[key]) for key in ("reason", "issue") if entry.get(key))
        if not name or not because:
            raise ItemsError(f"{place}: exclusions[{index}] needs an `item` and a `reason`", hint=hint)
        platforms = _texts(entry.get("platforms", entry.get("platform"))) or ()
        found.setdefault(name, []).append((platforms, because))
    return found


def without(item: Item, known: Exclusions, source: str) -> tuple[Item, tuple[LeftOut, ...]]:
    """Take the platforms from an item that it is excluded on."""
    left_out = []
    for platform in item.platforms:
        reasons = [
            why for platforms, why in known.get(item.name, ()) if not platforms or platform in platforms
        ]
        if reasons:
            because = f"{source} excludes it: {reasons[0]}"
            left_out.append(LeftOut(name=item.name, path=item.path, platform=platform, because=because))
    gone = {out.platform for out in left_out}
    return replace(item, platforms=tuple(name for name in item.platforms if name not in gone)), tuple(
        left_out
    )


def _toml(text: str) -> Any:
    import rtoml  # noqa: PLC0415  # only where items have metadata, and there it is ten times as fast as tomllib

    return rtoml.loads(text)


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415  # likewise
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from None


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    ".toml": _toml,
    ".json": json.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
}


def _lookup(values: dict[str, Any], keys: tuple[str, ...]) -> object:
    """Return the value that lies under nested keys, or `None`; no keys lead nowhere."""
    found: object = values if keys else None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _texts(value: object) -> tuple[str, ...] | None:
    """Return a list of strings, or one string, as a tuple; `None` for anything else."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        return None
    return tuple([entry for entry in value if isinstance(entry, str)])  # a list first: twice as fast


def _unsupported(limits: Limits, metadata: Metadata, platform: Platform) -> str:
    """Say why a platform is not supported; an absent list allows all, an empty one none."""
    systems, architectures, exceptions = limits
    for keys, allowed, mine in (
        (metadata.os, systems, platform.system),
        (metadata.arch, architectures, platform.architecture),
    ):
        if allowed is not None and mine not in allowed:
            return f"`{'.'.join(keys)}` is {json.dumps(list(allowed))}, without `{mine}`"
    for entry in exceptions or ():
        if _covers(entry, platform):
            return f"`{'.'.join(metadata.exceptions)}` has {json.dumps(entry)}"
    return ""


def _covers(entry: str, platform: Platform) -> bool:
    """Tell whether `os/arch`, `os/family/arch`, `os/family` or `os/arch/libc` names a platform.

    Every part has to be one of the platform's own, so an entry with a family or a C library leaves the
    plain platform alone.
    """
    parts = {platform.system, platform.architecture, *platform.family.split("-")}
    if platform.family and platform.system == "linux":
        parts.add(LIBC.get(platform.family, "glibc"))
    named = [part for part in re.split(r"[/-]", entry) if part]
    return bool(named) and parts.issuperset(named)
