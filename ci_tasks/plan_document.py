"""The plan as others read it: the JSON document, and the outputs of a CI job. Pure."""

from __future__ import annotations

import json
from typing import Any

from ci_tasks.errors import PlanError
from ci_tasks.items import Item, LeftOut
from ci_tasks.plan import Batch, Plan, SuitePlan
from ci_tasks.selection import Selected
from ci_tasks.settings import Config

VERSION = 1


OUTPUT_LIMIT = 400_000
"""Characters of one output; GitHub takes 1 MB of all outputs of a job, 2 bytes a character (November 2026)."""


def outputs(config: Config, plan: Plan) -> dict[str, str]:
    """Return what a plan tells later jobs of the same pipeline, by the seed's names.

    No job of ours reads `macos_items`, so it is left empty where it would not fit; the plan has all of it.
    `linux_matrix` holds the batches of every platform that is not macOS, `macos_matrix` those of macOS
    platforms that are not `single`; `macos_items` holds the names of all macOS items.
    """
    everywhere = plan.batches
    mac = [batch for batch in everywhere if batch.platform.startswith("darwin-")]
    other = [batch for batch in everywhere if batch not in mac]
    spread = [batch for batch in mac if config.platform(batch.platform).strategy != "single"]
    names = _json(list(dict.fromkeys(item.name for batch in mac for item in batch.items)))
    return {
        "base": plan.base,
        "head": plan.head,
        "linux_matrix": _json({"include": [_matrix_entry(config, batch) for batch in other]}),
        "has_linux": _json(bool(other)),
        "macos_items": names if len(names) <= OUTPUT_LIMIT else "",
        "has_macos": _json(bool(mac)),
        "macos_matrix": _json({"include": [_matrix_entry(config, batch) for batch in spread]}),
        "macos_platforms": _json(sorted({batch.platform for batch in mac})),
    }


def _matrix_entry(config: Config, batch: Batch) -> dict[str, Any]:
    labels = config.platform(batch.platform).runs_on
    first, count = batch.items[0].name, len(batch.items)
    return {
        "platform": batch.platform,
        "batch": batch.id,
        "name": first if count == 1 else f"{first} and {count - 1} more",
        "runs_on": labels[0] if len(labels) == 1 else list(labels),
    }


def _json(value: object) -> str:
    """Return JSON on one line, in ASCII: what every provider carries unharmed."""
    return json.dumps(value, separators=(",", ":"))


def as_json(plan: Plan) -> str:
    """Return the plan document, version 1."""
    document = {
        "version": VERSION,
        "base": plan.base or None,
        "head": plan.head,
        "worktree": plan.worktree,
        "because": plan.because,
        "changed": plan.changed,
        "suites": [_suite_document(suite) for suite in plan.suites],
        "warnings": list(plan.warnings),
    }
    return _json(document).replace("##[", r"\u0023#[") + "\n"  # in a CI log, `##[` would start a command


def _suite_document(suite: SuitePlan) -> dict[str, Any]:
    return {
        "suite": suite.suite,
        "total": suite.total,
        "items": [
            {
                "name": entry.item.name,
                "path": entry.item.path or None,
                "platforms": list(entry.item.platforms),
                "because": entry.because,
                "args": list(entry.item.args),
                "item_version": entry.item.version or None,
                "depends": list(entry.item.depends),
            }
            for entry in suite.selected
        ],
        "left_out": [
            {
                "name": out.name,
                "path": out.path or None,
                "platform": out.platform or None,
                "because": out.because,
            }
            for out in suite.left_out
        ],
        "batches": [
            {
                "id": batch.id,
                "platform": batch.platform,
                "items": [item.name for item in batch.items],
                "paths": [item.path or None for item in batch.items],
                "seconds": batch.seconds,
            }
            for batch in suite.batches
        ],
    }


def from_json(text: str, source: str) -> Plan:
    """Read a plan document back.

    :param source: the file's name, for error messages
    :raises PlanError: when it is no plan of this version
    """
    try:
        document = json.loads(text)
        version = document["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PlanError(f"{source} is no plan", hint="`invoke ci.plan --format json` prints one") from None
    if version != VERSION:
        raise PlanError(
            f"{source} is a plan of version {version!r}, this reads {VERSION}", hint="make the plan again"
        )
    try:
        return Plan(
            base=_text(document["base"] or ""),
            head=_text(document["head"]),
            worktree=document["worktree"],
            because=document["because"],
            changed=document["changed"],
            suites=tuple(_suite_from(entry) for entry in document["suites"]),
            warnings=tuple(document["warnings"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PlanError(
            f"{source} is damaged: {error!r} is missing or of another kind", hint="make it again"
        ) from None


def _suite_from(document: dict[str, Any]) -> SuitePlan:
    selected = tuple(_selected_from(entry) for entry in document["items"])
    known = {(entry.item.name, entry.item.path): entry.item for entry in selected}
    return SuitePlan(
        suite=document["suite"],
        total=document["total"],
        selected=selected,
        left_out=tuple(
            LeftOut(
                name=out["name"],
                path=out["path"] or "",
                platform=out["platform"] or "",
                because=out["because"],
            )
            for out in document["left_out"]
        ),
        batches=tuple(
            Batch(
                id=batch["id"],
                suite=document["suite"],
                platform=batch["platform"],
                items=tuple(
                    known[name, path or ""] for name, path in zip(batch["items"], batch["paths"], strict=True)
                ),
                seconds=batch["seconds"],
            )
            for batch in document["batches"]
        ),
    )


def _selected_from(entry: dict[str, Any]) -> Selected:
    item = Item(
        name=_text(entry["name"]),
        path=_text(entry["path"] or ""),
        platforms=_texts(entry["platforms"]),
        args=_texts(entry["args"]),
        version=_text(entry["item_version"] or ""),
        depends=_texts(entry["depends"]),
    )
    return Selected(item=item, because=entry["because"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string instead of {value!r}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list instead of {value!r}")
    return tuple(_text(entry) for entry in value)
