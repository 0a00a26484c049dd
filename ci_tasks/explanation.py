"""The plan in words: what runs where, and why, or why not. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ci_tasks.errors import PlanError
from ci_tasks.items import Item, LeftOut
from ci_tasks.plan import Plan, SuitePlan, is_named
from ci_tasks.reading import suggestion
from ci_tasks.report import counted


def compared(plan: Plan) -> str:
    """Say what was compared: `1234567890ab (origin/main, …) with the work tree, 3 files differ`."""
    head = f"the work tree at {plan.head[:12]}" if plan.worktree else plan.head[:12]
    if not plan.base:
        return f"{head}, compared with {plan.because}"
    return f"{head}, compared with {plan.base[:12]} ({plan.because}): {counted(plan.changed, 'file')} changed"


def nothing(plan: Plan) -> str:
    """Say why there is nothing to run."""
    total = sum(suite.total for suite in plan.suites)
    selected = sum(len(suite.selected) for suite in plan.suites)
    elsewhere = ", none of them for it" if selected else ""
    return f"{selected} of {counted(total, 'item')} selected{elsewhere}; {compared(plan)}"


def as_text(plan: Plan) -> str:
    """Return the plan for people: each suite's items, what was left out, and the batches, with reasons."""
    lines = [compared(plan)]
    for suite in plan.suites:
        lines += ["", f"{suite.suite}: {len(suite.selected)} of {counted(suite.total, 'item')} selected"]
        lines += _columns(
            (entry.item.name, " ".join(entry.item.platforms), entry.because) for entry in suite.selected
        )
        if suite.left_out:
            lines += ["  left out:"]
            lines += _columns((out.name, out.platform or "everywhere", out.because) for out in suite.left_out)
        if suite.batches:
            lines += ["  batches:"]
            lines += _columns(
                (
                    batch.id,
                    counted(len(batch.items), "item"),
                    ", ".join(_names(item.name for item in batch.items)),
                )
                for batch in suite.batches
            )
    return "\n".join(lines) + "\n"


def explained(plan: Plan, whole: Plan, name: str) -> str:
    """Return the chain from the change to the job for an item, selected or not.

    :param plan: what the change asks for
    :param whole: the plan for every item of the same suites
    :raises PlanError: when no suite has the item
    """
    lines = [compared(plan)]
    for now, all_of_it in zip(plan.suites, whole.suites, strict=True):
        found = [entry.item for entry in all_of_it.selected if is_named(entry.item, [name])]
        out = [entry for entry in (*all_of_it.left_out, *now.left_out) if is_named(entry, [name])]
        for known, path in dict.fromkeys([*map(_key, found), *map(_key, out)]):
            lines += ["", _printable(f"{known} in the suite {now.suite}{f' ({path})' if path else ''}")]
            lines += _chain(now, all_of_it, (known, path))
    if len(lines) == 1:
        known_names = [entry.item.name for suite in whole.suites for entry in suite.selected]
        raise PlanError(
            f"no suite has an item `{name}`{suggestion(name, known_names)}",
            hint="`invoke ci.plan --all` lists every item; does an `include` pattern match its file?",
        )
    return "\n".join(lines) + "\n"


def _chain(now: SuitePlan, whole: SuitePlan, key: tuple[str, str]) -> list[str]:
    because = next((entry.because for entry in now.selected if _key(entry.item) == key), "")
    out = dict.fromkeys(
        (entry.platform, entry.because) for entry in (*whole.left_out, *now.left_out) if _key(entry) == key
    )
    item = next((entry.item for entry in whole.selected if _key(entry.item) == key), None)
    jobs = {batch.platform: batch.id for batch in now.batches if key in map(_key, batch.items)}
    if because:
        lines = [f"  selected: {_printable(because)}"]
    elif item:
        lines = ["  not selected: neither its file nor one that concerns every item has changed"]
    else:
        lines = ["  not selected"]
    for platform in item.platforms if item else ():
        lines.append(
            f"  {platform}: {f'runs in the job {jobs[platform]}' if platform in jobs else 'would run'}"
        )
    return lines + [_printable(f"  {platform or 'everywhere'}: left out: {why}") for platform, why in out]


def _key(entry: Item | LeftOut) -> tuple[str, str]:
    return (entry.name, entry.path)


def _columns(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Align the first two columns; what could move the cursor is shown as an escape."""
    shown = [tuple(_printable(cell) for cell in row) for row in rows]
    widths = [max((len(row[column]) for row in shown), default=0) for column in (0, 1)]
    return [f"    {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in shown]


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _names(names: Iterable[str], most: int = 10) -> list[str]:
    found = list(names)
    return found if len(found) <= most else [*found[:most], f"{len(found) - most} more"]
