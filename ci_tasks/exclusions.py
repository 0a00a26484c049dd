"""Items that a project has excluded, each with its reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ci_tasks.errors import ItemsError
from ci_tasks.items import Item, LeftOut
from ci_tasks.metadata import parsed, texts
from ci_tasks.settings import Suite

Exclusions = Mapping[str, list[tuple[tuple[str, ...], str]]]
"""For each name, the platforms that an item is excluded on (none: all of them) and why."""


def read(suite: Suite, content: bytes | None) -> Exclusions:
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
        platforms = texts(entry.get("platforms", entry.get("platform"))) or ()
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


def freed(suite: Suite, before: bytes | None, now: Exclusions) -> dict[str, str]:
    """Return the names that the file excluded before, on some platform, and no longer does, each with its reason.

    :param before: the file at the base; when it cannot be read, nothing was excluded
    """
    try:
        old = read(suite, before)
    except ItemsError:
        return {}
    return {
        name: f"{suite.exclusions} no longer excludes it ({entries[0][1]})"
        for name, entries in old.items()
        if {platforms for platforms, _ in entries} != {platforms for platforms, _ in now.get(name, ())}
    }
