"""Which items a change touches, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ci_tasks import patterns
from ci_tasks.changes import Change, Changes
from ci_tasks.items import Finder, Item, LeftOut, stem
from ci_tasks.settings import Suite

ASKED_FOR = "every item was asked for"


@dataclass(frozen=True, kw_only=True)
class Selected:
    item: Item
    because: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    suite: str
    selected: tuple[Selected, ...]
    left_out: tuple[LeftOut, ...]
    total: int
    """Items that the suite has, selected or not."""
    warnings: tuple[str, ...]


def of_files(
    suite: Suite,
    platforms: Iterable[str],
    files: Iterable[str],
    changes: Changes,
    freed: Mapping[str, str],
    *,
    everything: str = "",
) -> Selection:
    """Select among items that are files.

    :param files: every path of the newer revision
    :param freed: names that count as changed for another reason, which is given
    :param everything: why all items are to run whatever changed; empty when only the change counts
    """
    known = tuple(platforms)
    finder = Finder(suite, known)
    changed = {change.path: change for change in changes.files}
    everything = everything or _everything(suite, changes)
    selected, left_out, total = [], [], 0
    named = bool(freed) and any("{name}" in pattern for pattern in suite.include)
    for path in files:
        change = changed.get(path)
        if change is None and not everything and stem(path) not in freed and not named:
            total += finder.matches(path)
            continue
        found = finder.find(path)
        if isinstance(found, LeftOut):
            left_out += [found] if change or everything else []
        elif found:
            total += 1
            because = _because(change) or everything or freed.get(found.name, "")
            if because:
                selected.append(Selected(item=found, because=because))
    unmatched = [pattern for pattern in suite.include if pattern not in finder.matched]
    warnings = [f"suites.{suite.name}.include: `{pattern}` matches no file" for pattern in unmatched]
    strange = [out.platform for out in left_out if out.platform and out.platform not in known]
    if strange:
        shown = ", ".join(sorted(set(strange)))
        warnings.append(
            f"suites.{suite.name}: {len(strange)} left out for platforms that ci.toml does not have: {shown}"
        )
    left_out += _deleted(suite, known, changes)
    return Selection(
        suite=suite.name,
        selected=tuple(selected),
        left_out=tuple(left_out),
        total=total,
        warnings=tuple(warnings),
    )


def of_list(
    suite: Suite, items: tuple[Item, ...], changes: Changes, freed: Mapping[str, str], *, everything: str = ""
) -> Selection:
    """Select all of a fixed list, or of it what is `freed`."""
    because = everything or _everything(suite, changes)
    if not suite.triggers and not suite.run_all:
        because = because or "the suite has no `triggers`, so it always runs"
    reasons = [(item, because or freed.get(item.name, "")) for item in items]
    selected = tuple(Selected(item=item, because=why) for item, why in reasons if why)
    return Selection(suite=suite.name, selected=selected, left_out=(), total=len(items), warnings=())


def _because(change: Change | None) -> str:
    return f"{change.path}: {change.status}" if change else ""


def _everything(suite: Suite, changes: Changes) -> str:
    """Say why the whole suite is to run, or nothing."""
    if not changes.base:
        return f"compared with {changes.because}"
    matcher = patterns.Matcher((*suite.run_all, *suite.triggers))
    for change in changes.files:
        pattern = matcher.first(change.path)
        if pattern:
            key = "run-all" if pattern in suite.run_all else "triggers"
            return f"{change.path}: {change.status}; `{key}` has `{pattern}`"
    return ""


def _deleted(suite: Suite, platforms: tuple[str, ...], changes: Changes) -> list[LeftOut]:
    finder = Finder(suite, platforms)
    gone = (finder.find(change.path) for change in changes.files if change.status == "deleted")
    return [
        LeftOut(name=found.name, path=found.path, platform="", because="deleted")
        for found in gone
        if isinstance(found, Item)
    ]
