"""How selected items become batches under the pools' caps.

`of` composes the walk up to here; everything else is pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ci_tasks import exclusions, items, metadata, patterns, selection
from ci_tasks.changes import Changes, Listing, Repository, between
from ci_tasks.errors import CiTasksError, PlanError
from ci_tasks.items import Item, LeftOut
from ci_tasks.providers import Base
from ci_tasks.reading import suggestion
from ci_tasks.selection import Selected, Selection
from ci_tasks.settings import Config, Platform, Suite

MATRIX_LIMIT = 256
"""Jobs that one GitHub matrix may have (checked November 2026)."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Items that one job runs, one after another."""

    id: str
    suite: str
    platform: str
    items: tuple[Item, ...]
    seconds: float | None = None
    """Expected duration, where it is known."""


@dataclass(frozen=True, kw_only=True)
class SuitePlan:
    suite: str
    selected: tuple[Selected, ...]
    left_out: tuple[LeftOut, ...]
    batches: tuple[Batch, ...]
    total: int
    """Items that the suite has, selected or not."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    base: str
    head: str
    worktree: bool
    because: str
    """Why this base was taken."""
    changed: int
    """Paths that differ between base and head."""
    suites: tuple[SuitePlan, ...]
    warnings: tuple[str, ...]

    @property
    def batches(self) -> tuple[Batch, ...]:
        return tuple(batch for suite in self.suites for batch in suite.batches)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(out for suite in self.suites for out in suite.left_out)


def of(
    config: Config,
    repository: Repository,
    run: Callable[[tuple[str, ...]], str],
    *,
    suites: Sequence[Suite],
    base: Base | None = None,
    head: str = "",
    everything: bool = False,
) -> Plan:
    """Plan what a change asks for.

    :param run: runs the words of an `items-from` and returns what they print
    :param base: what to compare with; `None` for the repository's default
    :param head: the newer revision; empty for the work tree as it is
    :param everything: take every item of the suites, whatever changed
    :raises GitError: when git cannot say what changed
    :raises PlanError: when selected items would not run in any batch
    """
    listing = Listing(repository, head, _places(suites))
    changes = _changes(repository, base, head, everything=everything)
    files = listing.files()
    because = selection.ASKED_FOR if everything else ""
    platforms = {platform.name: platform for platform in config.platforms}
    plans, warnings = [], []
    for suite in suites:
        known, freed = _exclusions(repository, suite, files, changes)
        if suite.exclusions and suite.exclusions not in files:
            warnings.append(
                f"suites.{suite.name}.exclusions: there is no {suite.exclusions}, so nothing is excluded"
            )
        if suite.fixed:
            chosen = selection.of_list(suite, items.fixed(suite, run), changes, freed, everything=because)
        else:
            chosen = selection.of_files(suite, platforms, files, changes, freed, everything=because)
        if suite.metadata:  # git reads blobs faster in the order of their names than in that of their files
            order = sorted(chosen.selected, key=lambda entry: files.get(entry.item.path, ""))
            chosen = replace(chosen, selected=tuple(order))
        paths = [entry.item.path for entry in chosen.selected] if suite.metadata else []
        narrowed, problems = _narrowed(suite, chosen, repository.read(paths, files), known, platforms)
        warnings += [*narrowed.warnings, *problems, *_idle(repository, suite)]
        plans.append(_suite_plan(config, suite, narrowed))
    return Plan(
        base=changes.base,
        head=changes.head,
        worktree=changes.worktree,
        because=changes.because,
        changed=len(changes.files),
        suites=tuple(plans),
        warnings=tuple(warnings),
    )


def _idle(repository: Repository, suite: Suite) -> Iterator[str]:
    """Yield a warning for each pattern that no change can ever match: a folder that has moved, a slip of the pen."""
    for key, found in (("run-all", suite.run_all), ("triggers", suite.triggers)):
        for pattern in found:
            if not repository.tracks(pattern):
                yield f"suites.{suite.name}.{key}: `{pattern}` matches no tracked file"


def _exclusions(
    repository: Repository, suite: Suite, files: Mapping[str, str], changes: Changes
) -> tuple[exclusions.Exclusions, Mapping[str, str]]:
    """Return what is excluded now, and for each item that no longer is, why it counts as changed."""
    if not suite.exclusions:
        return {}, {}
    (content,) = repository.read([suite.exclusions], files)
    now = exclusions.read(suite, content) if content is not None else {}
    if not any(change.path == suite.exclusions for change in changes.files):
        return now, {}
    before = repository.files(changes.base, below=(suite.exclusions,))
    (old,) = repository.read([suite.exclusions], before)
    return now, exclusions.freed(suite, old, now)


def _places(suites: Sequence[Suite]) -> tuple[str, ...]:
    """Return the folders that hold every item of the suites, so that git need not list the others."""
    named = [*(pattern for suite in suites for pattern in suite.include)]
    named += [suite.exclusions for suite in suites if suite.exclusions]
    return tuple(dict.fromkeys(patterns.folder(pattern) for pattern in named))


def _changes(repository: Repository, base: Base | None, head: str, *, everything: bool) -> Changes:
    """Return what changed; with `everything`, a history without a base is no error."""
    try:
        return between(repository, base, head)
    except CiTasksError:
        if not everything or (base and base.given):
            raise
        newest = repository.resolve(head or "HEAD")
        return Changes(base="", head=newest, worktree=not head, because=selection.ASKED_FOR, files=())


def _narrowed(
    suite: Suite,
    chosen: Selection,
    contents: Iterator[bytes | None],
    excluded: exclusions.Exclusions,
    platforms: Mapping[str, Platform],
) -> tuple[Selection, list[str]]:
    """Apply the platforms that the items' own files name, and the exclusions: filter first, group afterwards."""
    support = metadata.Support(suite.metadata, platforms) if suite.metadata else None
    kept, left_out, warnings = [], list(chosen.left_out), []
    for entry in chosen.selected:
        item = entry.item
        if support:
            item, out, warning = support.narrow(item, next(contents))
            left_out += out
            warnings += [warning] if warning else []
        if item.name in excluded:
            item, out = exclusions.without(item, excluded, suite.exclusions)
            left_out += out
        if item.platforms:
            kept.append(entry if item is entry.item else Selected(item=item, because=entry.because))
    if support:
        kept.sort(key=lambda entry: entry.item.path)
        left_out.sort(key=lambda entry: entry.path)
    return replace(chosen, selected=tuple(kept), left_out=tuple(left_out)), warnings


def _suite_plan(config: Config, suite: Suite, chosen: Selection) -> SuitePlan:
    made = batches(config, suite, [entry.item for entry in chosen.selected])
    planned = {(batch.platform, item.name, item.path) for batch in made for item in batch.items}
    for entry in chosen.selected:
        for platform in entry.item.platforms:
            if (platform, entry.item.name, entry.item.path) not in planned:
                raise PlanError(f"`{entry.item.name}` is selected for {platform}, but no batch has it")
    return SuitePlan(
        suite=suite.name, selected=chosen.selected, left_out=chosen.left_out, batches=made, total=chosen.total
    )


def batches(config: Config, suite: Suite, chosen: Sequence[Item]) -> tuple[Batch, ...]:
    """Group items into batches, platform by platform, by each platform's strategy.

    :raises PlanError: when a pool has fewer slots than platforms that need it
    """
    by_platform = {name: [item for item in chosen if name in item.platforms] for name in suite.platforms}
    needed = [config.platform(name) for name, mine in by_platform.items() if mine]
    most = _shares(config, suite, needed)
    made = []
    for platform in needed:
        groups = _groups(platform, by_platform[platform.name], most[platform.name])
        for number, group in enumerate(groups, start=1):
            key = f"{suite.name}-{platform.name}{'' if platform.strategy == 'single' else f'-{number}'}"
            made.append(Batch(id=key, suite=suite.name, platform=platform.name, items=tuple(group)))
    return tuple(made)


def _shares(config: Config, suite: Suite, needed: Sequence[Platform]) -> dict[str, int]:
    """Return how many jobs each platform may have: its share of the matrix, and of its pool's slots."""
    single = [platform for platform in needed if platform.strategy == "single"]
    matrix = (MATRIX_LIMIT - len(single)) // max(len(needed) - len(single), 1)
    shares = {platform.name: 1 if platform in single else matrix for platform in needed}
    for name in dict.fromkeys(platform.pool for platform in needed if platform.pool):
        sharing = [platform for platform in needed if platform.pool == name]
        slots = config.pool(name).slots
        if slots < len(sharing):
            raise PlanError(
                f"the suite `{suite.name}` needs {len(sharing)} jobs of the pool `{name}`, which has {slots}",
                hint="run fewer of its platforms in one suite, or raise the pool's `slots`",
            )
        for number, platform in enumerate(sharing):
            share = slots // len(sharing) + (number < slots % len(sharing))
            shares[platform.name] = min(shares[platform.name], share)
    return shares


def _groups(platform: Platform, chosen: list[Item], most: int) -> list[list[Item]]:
    """Split items by a platform's strategy into at most `most` groups, none of them empty."""
    count = len(chosen)
    jobs = {
        "single": 1,
        "each": count,
        "fixed": -(-count // platform.size),
        "adaptive": platform.jobs,
        "hybrid": count if count <= platform.threshold else platform.jobs,
    }[platform.strategy]
    groups = min(jobs, most, count)
    if platform.strategy == "fixed" and groups == jobs:
        return [chosen[start : start + platform.size] for start in range(0, count, platform.size)]
    return _evenly(chosen, groups)


def _evenly(chosen: list[Item], groups: int) -> list[list[Item]]:
    """Split into groups whose sizes differ by one at most, in order."""
    bounds = [len(chosen) * number // groups for number in range(groups + 1)] if groups else []
    return [chosen[start:end] for start, end in itertools.pairwise(bounds)]


def chosen(plan: Plan, platform: str, batch: str = "") -> tuple[Batch, ...]:
    """Return the batches of a platform, or the one batch with an id.

    :raises PlanError: when the plan has no such batch
    """
    mine = tuple(entry for entry in plan.batches if entry.platform == platform and batch in ("", entry.id))
    if batch and not mine:
        known = ", ".join([entry.id for entry in plan.batches if entry.platform == platform][:10])
        raise PlanError(f"the plan has no batch `{batch}` for {platform}", hint=f"it has: {known or 'none'}")
    return mine


def of_items(made: Sequence[Batch], names: Sequence[str]) -> tuple[Batch, ...]:
    """Narrow batches to the items that are named, by name or path."""
    kept = (
        replace(batch, items=tuple(item for item in batch.items if is_named(item, names))) for batch in made
    )
    return tuple(batch for batch in kept if batch.items)


def is_named(item: Item | LeftOut, names: Sequence[str]) -> bool:
    return item.name in names or (bool(item.path) and item.path in names)


def checked(plan: Plan, names: Sequence[str], platform: str) -> Plan:
    """Return the plan when it can run every named item on a platform.

    :raises PlanError: saying which item it cannot run, and why
    """
    for name in names:
        if any(
            is_named(item, [name])
            for batch in plan.batches
            if batch.platform == platform
            for item in batch.items
        ):
            continue
        out = [entry for suite in plan.suites for entry in suite.left_out if is_named(entry, [name])]
        because = next((entry.because for entry in out if entry.platform in ("", platform)), "")
        if because:
            raise PlanError(f"`{name}` does not run on {platform}: {because}")
        known = [entry.item.name for suite in plan.suites for entry in suite.selected]
        suites = ", ".join(suite.suite for suite in plan.suites) or "none"
        raise PlanError(
            f"there is no item `{name}` for {platform}{suggestion(name, known)}",
            hint=f"suites looked at: {suites}; `invoke ci.plan --all` lists their items",
        )
    return plan


def only(plan: Plan, platform: str) -> Plan:
    """Return what a plan says of one platform."""
    suites = (
        replace(
            suite,
            selected=tuple(
                replace(entry, item=replace(entry.item, platforms=(platform,)))
                for entry in suite.selected
                if platform in entry.item.platforms
            ),
            left_out=tuple(out for out in suite.left_out if out.platform in ("", platform)),
            batches=tuple(batch for batch in suite.batches if batch.platform == platform),
        )
        for suite in plan.suites
    )
    return replace(plan, suites=tuple(suites))
