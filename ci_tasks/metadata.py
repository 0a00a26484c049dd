"""What an item's own file says: the platforms it supports, and the items it needs. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from ci_tasks.items import Item, LeftOut
from ci_tasks.settings import Metadata, Platform

LIBC = {"alpine": "musl"}
"""C library of the Linux families that do not use glibc; a platform without a family has none."""


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
            texts(_lookup(values, self._metadata.os)),
            texts(_lookup(values, self._metadata.arch)),
            texts(_lookup(values, self._metadata.exceptions)),
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
        depends = texts(_lookup(values, self._metadata.depends)) or ()
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
    parser = _PARSERS.get(suffix)
    if parser is None:
        raise ValueError(f"`metadata` is read from .toml, .json and .yaml files, not `{suffix}`")
    try:
        values = parser(content.decode("utf-8"))
    except (ValueError, LookupError, RecursionError) as error:
        raise ValueError(
            f"cannot be parsed: {next(iter(str(error).splitlines()), 'no reason given')}"
        ) from None
    if not isinstance(values, dict):
        raise ValueError("holds no table at its top level")  # noqa: TRY004  # the file is wrong, not our type
    return values


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


def texts(value: object) -> tuple[str, ...] | None:
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
