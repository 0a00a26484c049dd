"""What the README tells a newcomer to type is there, works, and is what CI runs."""

from __future__ import annotations

import re
from pathlib import Path

from ci_tasks import config
from ci_tasks.tasks import run_batch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_each_of_the_two_commands_is_one_line_alone_in_its_block() -> None:
    (run,) = blocks(section("Run it"), "sh")
    (test,) = blocks(section("Test it"), "sh")
    assert run.count("\n") == test.count("\n") == 1
    assert run.endswith("ci.run-batch --arch host --all\n")
    assert test.endswith("/tox\n")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (test,) = blocks(section("Test it"), "sh")
    assert test in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_complete_ci_toml_is_complete(tmp_path: Path) -> None:
    (text,) = blocks(README, "toml")
    (tmp_path / "ci.toml").write_text(text, encoding="utf-8")
    read = config.load(tmp_path / "ci.toml")
    assert read.suites[0].workflow == ".github/workflows/recipes.yml"


def test_every_flag_of_run_batch_stands_in_the_readme() -> None:
    flags = {f"--{name.replace('_', '-')}" for name in run_batch.help}
    assert flags == set(re.findall(r"--[a-z][a-z-]*", section("The tasks").split("### ci.run-batch", 1)[1]))


def test_every_key_of_ci_toml_stands_in_the_reference() -> None:
    import json  # noqa: PLC0415

    schema = json.loads((ROOT / "ci_tasks/ci.schema.json").read_text(encoding="utf-8"))
    missing = [
        key
        for name in ("suite", "platform", "github", "cache", "metadata")
        for key in schema["$defs"][name]["properties"]
        if not re.search(rf"[`.]{re.escape(key)}[`. ]", REFERENCE)
    ]
    assert missing == []


def test_links_inside_the_project_lead_somewhere() -> None:
    for text, folder in ((README, ROOT), (REFERENCE, ROOT / "docs")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (folder / target).exists(), target
