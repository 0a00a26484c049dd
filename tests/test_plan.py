"""How selected items become batches, and what `ci.plan` says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OTHER, PLATFORM, RECIPES, Project, toml
from hypothesis import given
from hypothesis import strategies as st

from ci_tasks import config, metadata, plan, plan_document, settings
from ci_tasks.errors import PlanError
from ci_tasks.items import Item
from ci_tasks.selection import Selected

DATA = Path(__file__).parent / "data"


def platform(name: str = "linux-amd64", *, strategy: str = "each", **values: int) -> settings.Platform:
    numbers = {"size": 10, "jobs": 5, "threshold": 10, **values}
    return settings.Platform(
        name=name, runs_on=("x",), pool="mac" if name.startswith("darwin") else "", strategy=strategy,
        size=numbers["size"], jobs=numbers["jobs"], threshold=numbers["threshold"], buildkite=None, vm=None,
    )  # fmt: skip


def project_with(*platforms: settings.Platform) -> tuple[settings.Config, settings.Suite]:
    base = config.load(DATA / "tsuku.ci.toml")
    suite = settings.Suite(**{**vars(base.suites[0]), "platforms": tuple(entry.name for entry in platforms)})
    values = {**vars(base), "platforms": platforms, "suites": (suite,)}
    values["pools"] = (settings.Pool(name="mac", slots=5, price=None, semaphore=False),)
    return settings.Config(**values), suite


def some(count: int, *platforms: str) -> list[Item]:
    return [Item(name=f"i{number}", path=f"r/i{number}.toml", platforms=platforms) for number in range(count)]


def sizes(strategy: str, count: int, name: str = "linux-amd64", /, **values: int) -> list[int]:
    read, suite = project_with(platform(name, strategy=strategy, **values))
    return [len(batch.items) for batch in plan.batches(read, suite, some(count, name))]


@pytest.mark.parametrize(
    ("strategy", "count", "values", "expected"),
    [
        ("single", 85, {}, [85]),
        ("single", 0, {}, []),
        ("each", 3, {}, [1, 1, 1]),
        ("fixed", 25, {"size": 10}, [10, 10, 5]),
        ("adaptive", 85, {"jobs": 5}, [17] * 5),
        ("adaptive", 3, {"jobs": 5}, [1, 1, 1]),
        ("adaptive", 7, {"jobs": 5}, [1, 1, 2, 1, 2]),
        ("hybrid", 10, {"threshold": 10, "jobs": 5}, [1] * 10),
        ("hybrid", 11, {"threshold": 10, "jobs": 5}, [2, 2, 2, 2, 3]),
    ],
)
def test_a_strategy_groups_items(
    strategy: str, count: int, values: dict[str, int], expected: list[int]
) -> None:
    assert sizes(strategy, count, **values) == expected


def test_more_items_than_a_matrix_can_have_are_grouped() -> None:
    found = sizes("each", 10_000)
    assert len(found) == plan.MATRIX_LIMIT
    assert sum(found) == 10_000


@given(
    st.sampled_from(settings.STRATEGIES),
    st.integers(0, 400),
    st.integers(1, 50),
    st.integers(1, 20),
    st.integers(0, 30),
)
def test_a_pool_is_never_exceeded_and_no_item_is_lost(
    strategy: str, count: int, size: int, jobs: int, threshold: int
) -> None:
    found = sizes(strategy, count, "darwin-arm64", size=size, jobs=jobs, threshold=threshold)
    assert len(found) <= 5
    assert sum(found) == count
    assert all(found)


def test_platforms_that_share_a_pool_share_its_slots() -> None:
    read, suite = project_with(platform("darwin-arm64"), platform("darwin-amd64"))
    made = plan.batches(read, suite, some(50, "darwin-arm64", "darwin-amd64"))
    assert [batch.platform for batch in made] == ["darwin-arm64"] * 3 + ["darwin-amd64"] * 2


def test_a_pool_with_too_few_slots_is_an_error() -> None:
    names = [f"darwin-{number}" for number in range(6)]
    read, suite = project_with(*(platform(name, strategy="single") for name in names))
    with pytest.raises(PlanError, match="needs 6 jobs of the pool `mac`, which has 5"):
        plan.batches(read, suite, some(1, *names))


def test_one_matrix_holds_the_batches_of_all_its_platforms() -> None:
    read, suite = project_with(
        platform(), platform("linux-arm64", strategy="single"), platform("linux-riscv64")
    )
    made = plan.batches(read, suite, some(300, "linux-amd64", "linux-arm64", "linux-riscv64"))
    assert len(made) <= plan.MATRIX_LIMIT


def test_items_are_filtered_before_they_are_grouped() -> None:
    read, suite = project_with(
        platform(strategy="fixed", size=2), platform("darwin-arm64", strategy="single")
    )
    chosen = [*some(3, "linux-amd64"), *some(1, "darwin-arm64")]
    made = plan.batches(read, suite, chosen)
    assert [(batch.id, len(batch.items)) for batch in made] == [
        ("recipes-linux-amd64-1", 2),
        ("recipes-linux-amd64-2", 1),
        ("recipes-darwin-arm64", 1),
    ]


def planned(read: settings.Config, suite: settings.Suite, chosen: list[Item]) -> plan.Plan:
    selected = tuple(Selected(item=item, because="test") for item in chosen)
    made = plan.SuitePlan(
        suite=suite.name,
        selected=selected,
        left_out=(),
        batches=plan.batches(read, suite, chosen),
        total=len(chosen),
    )
    return plan.Plan(
        base="b", head="h", worktree=False, because="test", changed=1, suites=(made,), warnings=("careful",)
    )


def test_outputs_have_the_names_of_the_seed() -> None:
    read, suite = project_with(platform(), platform("darwin-arm64", strategy="single"))
    outputs = plan_document.outputs(read, planned(read, suite, some(2, "linux-amd64", "darwin-arm64")))
    assert set(outputs) == {
        "base", "head", "linux_matrix", "has_linux", "macos_items", "has_macos", "macos_matrix", "macos_platforms",
    }  # fmt: skip
    assert outputs["has_linux"] == outputs["has_macos"] == "true"
    assert json.loads(outputs["macos_items"]) == ["i0", "i1"]
    assert json.loads(outputs["linux_matrix"])["include"][0] == {
        "platform": "linux-amd64", "batch": "recipes-linux-amd64-1", "name": "i0", "runs_on": "x",
    }  # fmt: skip
    assert json.loads(outputs["macos_platforms"]) == ["darwin-arm64"]
    none = plan_document.outputs(read, planned(read, suite, []))
    assert (none["has_linux"], none["has_macos"], none["macos_items"]) == ("false", "false", "[]")


def test_ten_thousand_items_exceed_no_output() -> None:
    read, suite = project_with(platform(), platform("darwin-arm64", strategy="single"))
    many = [
        Item(name=f"{number:0>120}", path="", platforms=("linux-amd64", "darwin-arm64"))
        for number in range(10_000)
    ]
    made = planned(read, suite, many)
    outputs = plan_document.outputs(read, made)
    assert sum(map(len, outputs.values())) * 2 < 1_000_000
    assert (outputs["macos_items"], outputs["has_macos"]) == ("", "true")
    assert plan_document.from_json(plan_document.as_json(made), "test") == made


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_a_plan_survives_its_document(names: list[str]) -> None:
    read, suite = project_with(platform(), platform("darwin-arm64", strategy="single"))
    chosen = [
        Item(name=name, path="", platforms=("linux-amd64", "darwin-arm64"), args=("a", name))
        for name in names
    ]
    made = planned(read, suite, chosen)
    assert plan_document.from_json(plan_document.as_json(made), "test") == made
    assert all(len(value.splitlines()) <= 1 for value in plan_document.outputs(read, made).values())


DOCUMENT = '{"version": 1, "base": null, "worktree": true, "because": "", "changed": 0, "warnings": [], %s}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no plan"),
        ("[]", "is no plan"),
        ("null", "is no plan"),
        ('{"version": 99}', "version 99, this reads 1"),
        ('{"version": 1}', "is damaged"),
        ("[" * 100_000, "is no plan"),
        (DOCUMENT % '"head": 7', "is damaged"),
        (
            DOCUMENT % '"head": "h", "suites": [{"suite": "s", "total": 1, "items": [{"name": 1}]}]',
            "is damaged",
        ),
        (
            '{"version": 1, "base": null, "head": "x", "worktree": true, "because": "", "changed": 0, "suites": null, "warnings": []}',
            "damaged",
        ),
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan_document.from_json(text, "plan.json")


METADATA = settings.Metadata(
    os=("m", "os"), arch=("m", "arch"), exceptions=("m", "not"), depends=("m", "needs")
)
PLATFORMS = {
    name: platform(name) for name in ("linux-amd64", "linux-arm64", "linux-alpine-amd64", "darwin-arm64")
}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "linux-amd64 linux-arm64 linux-alpine-amd64 darwin-arm64"),
        ("[m]\nos = ['linux']", "linux-amd64 linux-arm64 linux-alpine-amd64"),
        ("[m]\nos = []", ""),
        ("[m]\nos = 'darwin'", "darwin-arm64"),
        ("[m]\narch = ['arm64']", "linux-arm64 darwin-arm64"),
        ("[m]\nnot = ['darwin/arm64', 'linux/arm64']", "linux-amd64 linux-alpine-amd64"),
        ("[m]\nnot = ['linux/amd64']", "linux-arm64 darwin-arm64"),
        ("[m]\nnot = ['linux/alpine/amd64']", "linux-amd64 linux-arm64 darwin-arm64"),
        ("[m]\nnot = ['linux/amd64/musl']", "linux-amd64 linux-arm64 darwin-arm64"),
        ("[m]\nnot = ['linux/amd64/glibc']", "linux-amd64 linux-arm64 linux-alpine-amd64 darwin-arm64"),
        ("[m]\nnot = ['darwin']", "linux-amd64 linux-arm64 linux-alpine-amd64"),
        ("# os = ['plan9']\n[m]\nname = 'os'", "linux-amd64 linux-arm64 linux-alpine-amd64 darwin-arm64"),
    ],
)
def test_an_items_own_file_narrows_its_platforms(content: str, expected: str) -> None:
    item = Item(name="a", path="a.toml", platforms=tuple(PLATFORMS))
    kept, left_out, warning = metadata.Support(METADATA, PLATFORMS).narrow(item, content.encode())
    assert kept.platforms == tuple(expected.split())
    assert {out.platform for out in left_out} == set(PLATFORMS) - set(kept.platforms)
    assert warning == ""
    assert all(out.because for out in left_out)


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.toml", b"[m", "cannot be parsed"),
        ("a.toml", b"\xff", "cannot be parsed"),
        ("a.json", b"[1]", "holds no table"),
        ("a.rb", b"x", "not `.rb`"),
        ("a.yaml", b"a: [", "cannot be parsed"),
        ("a.yaml", b"a: !!int ''", "cannot be parsed"),
        ("a.yaml", b"a: !!bool x", "cannot be parsed"),
        ("a.toml", None, "cannot be read"),
    ],
)
def test_metadata_that_cannot_be_read_narrows_nothing_and_is_said(
    path: str, content: bytes | None, reason: str
) -> None:
    item = Item(name="a", path=path, platforms=tuple(PLATFORMS))
    kept, left_out, warning = metadata.Support(METADATA, PLATFORMS).narrow(item, content)
    assert kept == item
    assert left_out == ()
    assert reason in warning


def test_metadata_is_read_from_json_and_yaml_too() -> None:
    for path, content in (
        ("a.json", b'{"m": {"os": ["linux"]}}'),
        ("a.yml", b"m:\n  os: [linux]\n  needs: [b, c]\n"),
    ):
        item = Item(name="a", path=path, platforms=tuple(PLATFORMS))
        kept, _, warning = metadata.Support(METADATA, PLATFORMS).narrow(item, content)
        assert "darwin-arm64" not in kept.platforms
        assert warning == ""
    assert kept.depends == ("b", "c")


def selection(project: Project, *arguments: str) -> dict[str, list[str]]:
    result = project.invoke("ci.plan", "--format", "json", *arguments)
    assert result.code == 0, result.err
    return {item["name"]: item["platforms"] for item in result.json()["suites"][0]["items"]}


def test_only_what_changed_is_planned(project: Project) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": "", "recipes/b/b.toml": "", "docs/x.md": ""})
    project.commit({"recipes/b/b.toml": "[metadata]\nsupported_os = ['linux']\n", "docs/x.md": "1"})
    assert selection(project, "--head", "HEAD") == {"b": ["linux-amd64"]}
    project.write({"recipes/c.toml": "", "recipes/discovery/d.toml": ""})
    assert selection(project, "--head", "HEAD") == {"b": ["linux-amd64"]}
    assert set(selection(project)) == {"b", "c"}
    assert set(selection(project, "--all")) == {"a", "b", "c"}


def test_every_item_and_every_item_left_out_has_its_reason(project: Project) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/gone.toml": ""})
    (project.root / "recipes/gone.toml").unlink()
    project.commit(
        {
            "recipes/a.toml": "[metadata]\nsupported_os = ['darwin']\n",
            "recipes/discovery/d.toml": "",
            "recipes/b.toml": "",
        }
    )
    document = project.invoke("ci.plan", "--format", "json").json()
    assert set(document) == {
        "version", "base", "head", "worktree", "because", "changed", "suites", "warnings",
    }  # fmt: skip
    assert document["version"] == 1
    assert len(document["base"]) == len(document["head"]) == 40
    (suite,) = document["suites"]
    assert {item["name"]: item["because"] for item in suite["items"]} == {
        "a": "recipes/a.toml: added",
        "b": "recipes/b.toml: added",
    }
    assert {(out["name"], out["platform"]): out["because"] for out in suite["left_out"]} == {
        ("a", "linux-amd64"): '`metadata.supported_os` is ["darwin"], without `linux`',
        ("d", None): "`exclude` has `recipes/discovery/**`",
        ("gone", None): "deleted",
    }
    assert [(batch["id"], batch["items"]) for batch in suite["batches"]] == [
        ("recipes-linux-amd64-1", ["b"]),
        ("recipes-darwin-arm64", ["a", "b"]),
    ]


def test_a_file_that_concerns_all_selects_all_and_is_named(project: Project) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": "", "recipes/b.toml": ""})
    project.commit({"cmd/main.go": ""})
    document = project.invoke("ci.plan", "--format", "json").json()
    assert {item["because"] for item in document["suites"][0]["items"]} == {
        "cmd/main.go: added; `run-all` has `**/*.go`"
    }


def test_nothing_changed_is_said_in_words(project: Project) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": ""})
    project.commit({"docs/x.md": ""})
    result = project.invoke("ci.plan")
    assert result.code == 0
    assert "recipes: 0 of 1 item selected" in result.out
    assert "1 file changed" in result.out


def test_a_pattern_that_matches_no_file_is_a_warning(project: Project) -> None:
    moved = RECIPES.replace('"recipes/**/*.toml"', '"recipes/**/*.toml", "formulas/*.toml"')
    project.commit({"ci.toml": moved, "recipes/a.toml": ""})
    result = project.invoke("ci.plan")
    assert "warning: suites.recipes.include: `formulas/*.toml` matches no file" in result.err
    assert "warning: suites.recipes.run-all: `**/*.go` matches no tracked file" in result.err
    project.commit({"cmd/main.go": ""})
    assert "**/*.go" not in project.invoke("ci.plan").err


def test_files_of_unknown_platforms_are_listed_with_a_warning(project: Project) -> None:
    golden = RECIPES.split("[suites.recipes]")[0] + (
        "[suites.golden]\ninclude = ['plans/{name}/v{version}-{platform}.json']\ncommand = 'true'\n"
    )
    project.commit({"ci.toml": golden, "plans/a/v1-linux-amd64.json": ""})
    project.commit({"plans/a/v15.2.0-linux-alpine-amd64.json": "", "plans/a/v1-darwin-arm64.json": ""})
    result = project.invoke("ci.plan", "--format", "json")
    (suite,) = result.json()["suites"]
    assert [(item["path"], item["platforms"]) for item in suite["items"]] == [
        ("plans/a/v1-darwin-arm64.json", ["darwin-arm64"])
    ]
    assert [(out["path"], out["platform"]) for out in suite["left_out"]] == [
        ("plans/a/v15.2.0-linux-alpine-amd64.json", "linux-alpine-amd64")
    ]
    assert (
        "warning: suites.golden: 1 left out for platforms that ci.toml does not have: linux-alpine-amd64"
        in result.err
    )


EXCLUSIONS = {
    "exclusions": [
        {"recipe": "a", "issue": "https://example.org/1", "reason": "broken"},
        {"item": "b", "platforms": ["darwin-arm64"], "reason": "slow"},
    ]
}


def test_excluded_items_are_left_out_with_the_reason(project: Project) -> None:
    text = RECIPES.replace("run-all =", 'exclusions = "excluded.json"\nrun-all =')
    recipes = {f"recipes/{name}.toml": "" for name in "abc"}
    project.commit({"ci.toml": text, "excluded.json": json.dumps(EXCLUSIONS), "go.mod": ""})
    project.commit(recipes)
    document = project.invoke("ci.plan", "--format", "json").json()
    (suite,) = document["suites"]
    assert {item["name"]: item["platforms"] for item in suite["items"]} == {
        "b": ["linux-amd64"],
        "c": ["linux-amd64", "darwin-arm64"],
    }
    reasons = {(out["name"], out["platform"]): out["because"] for out in suite["left_out"]}
    assert reasons["a", "linux-amd64"] == "excluded.json excludes it: broken https://example.org/1"
    assert reasons["b", "darwin-arm64"] == "excluded.json excludes it: slow"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no list `exclusions`"),
        ("{", "cannot be parsed"),
        ('{"exclusions": [{"item": "a"}]}', "needs an `item` and a `reason`"),
    ],
)
def test_an_exclusions_file_that_cannot_be_used_is_an_error(
    project: Project, text: str, message: str
) -> None:
    configuration = RECIPES.replace("run-all =", 'exclusions = "excluded.json"\nrun-all =')
    project.commit({"ci.toml": configuration, "excluded.json": text})
    result = project.invoke("ci.plan")
    assert result.code == 2
    assert message in result.err
    (project.root / "excluded.json").unlink()
    missing = project.invoke("ci.plan")
    assert missing.code == 0
    assert "there is no excluded.json, so nothing is excluded" in missing.err


def test_an_item_that_is_no_longer_excluded_counts_as_changed(project: Project) -> None:
    text = RECIPES.replace("run-all =", 'exclusions = "excluded.json"\nrun-all =')
    recipes = {f"recipes/{name}.toml": "" for name in "abc"}
    project.commit({"ci.toml": text, "excluded.json": json.dumps(EXCLUSIONS), **recipes})
    project.commit({"excluded.json": json.dumps({"exclusions": EXCLUSIONS["exclusions"][1:]})})
    (suite,) = project.invoke("ci.plan", "--format", "json").json()["suites"]
    assert {item["name"]: item["because"] for item in suite["items"]} == {
        "a": "excluded.json no longer excludes it (broken https://example.org/1)"
    }
    project.commit({"docs": ""})
    assert selection(project) == {}


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        ('"a"\n\n{"name": "b", "args": "--flag x"}\n', {"a": [], "b": ["--flag", "x"]}),
        ('{"name": "it\'s", "args": ["one two"], "platforms": ["darwin-arm64"]}', {"it's": ["one two"]}),
        ("", {}),
    ],
)
def test_a_list_comes_from_the_projects_own_command(
    project: Project, printed: str, names: dict[str, list[str]]
) -> None:
    text = toml().replace('items = ["one", "two"]', 'items-from = "cat list"').replace(OTHER, "darwin-arm64")
    project.commit({"ci.toml": text, "list": printed})
    result = project.invoke("ci.plan", "--format", "json")
    assert result.code == 0, result.err
    (suite,) = result.json()["suites"]
    assert {item["name"]: item["args"] for item in suite["items"]} == names


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("jq\n", "line 1 is not JSON: 'jq'"),
        ('"a"\n{"nam": "b"}\n', "line 2 has no `name`"),
        ('"a"\n"a"\n', "`a` is printed twice"),
        ('{"name": "a", "platforms": ["plan9-mips"]}', "the suite has no platform `plan9-mips`"),
        ('{"name": "a", "args": [1]}', "are lists of strings"),
        ('{"name": "a", "args": "it\'s"}', "`args` cannot be split into words"),
    ],
)
def test_a_list_that_cannot_be_read_is_an_error(project: Project, printed: str, message: str) -> None:
    text = toml().replace('items = ["one", "two"]', 'items-from = "cat list"')
    project.commit({"ci.toml": text, "list": printed})
    result = project.invoke("ci.plan")
    assert result.code == 2
    assert message in result.err


def test_a_list_command_that_fails_is_an_error_and_not_an_empty_list(project: Project) -> None:
    for command, message in (
        ("false", "exited with 1"),
        ("no-such-command", "cannot start `no-such-command`"),
    ):
        project.commit({"ci.toml": toml().replace('items = ["one", "two"]', f'items-from = "{command}"')})
        result = project.invoke("ci.plan")
        assert result.code == 2
        assert message in result.err


def test_a_fixed_list_is_selected_by_its_triggers(project: Project) -> None:
    project.commit({"ci.toml": toml(more='triggers = ["src/**"]\nrun-all = ["go.mod"]')})
    project.commit({"docs/x": ""})
    assert selection(project) == {}
    project.commit({"src/x": ""})
    assert set(selection(project)) == {"one", "two"}
    project.commit({"go.mod": ""})
    assert set(selection(project)) == {"one", "two"}


def test_a_suite_that_does_not_run_by_default_is_planned_when_it_is_named(project: Project) -> None:
    project.commit({"ci.toml": toml(more="default = false")})
    assert project.invoke("ci.plan", "--format", "json").json()["suites"] == []
    assert set(selection(project, "--suite", "suite")) == {"one", "two"}


def test_the_plan_is_written_for_people_with_one_platform_shown(project: Project) -> None:
    project.commit({"ci.toml": toml()})
    result = project.invoke("ci.plan", "--arch", "host")
    assert result.code == 0
    assert PLATFORM in result.out
    assert f"suite-{OTHER}" not in result.out
    assert "the suite has no `triggers`, so it always runs" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "siute"), "there is no suite `siute` in ci.toml; did you mean `suite`?"),
        (("--arch", "plan9-mips"), "there is no platform `plan9-mips`"),
        (("--format", "yaml"), "--format is text or json"),
        (("--base", "nowhere"), "git does not know the revision `nowhere`"),
        (("--head", "nowhere"), "git does not know the revision `nowhere`"),
    ],
)
def test_a_bad_argument_is_named(project: Project, arguments: tuple[str, ...], message: str) -> None:
    project.commit({"ci.toml": toml()})
    result = project.invoke("ci.plan", *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_publishing_sets_outputs_and_writes_the_plan(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": ""})
    project.commit({"recipes/b.toml": ""})
    outputs = tmp_path / "outputs"
    result = project.invoke(
        "ci.plan", "--publish", environ={"GITHUB_OUTPUT": str(outputs), "GITHUB_ACTIONS": "true"}
    )
    assert result.code == 0, result.err
    pairs = dict(line.split("=", 1) for line in outputs.read_text(encoding="utf-8").splitlines())
    assert pairs["macos_items"] == '["b"]'
    assert pairs["has_macos"] == "true"
    written = (project.root / ".ci-tasks/plan.json").read_text(encoding="utf-8")
    assert plan_document.from_json(written, "plan").head == project.git("rev-parse", "HEAD")
    assert project.git("status", "--porcelain") == ""


def event(project: Project, tmp_path: Path, name: str, values: object, **more: str) -> dict[str, object]:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": str(path), **more}
    result = project.invoke("ci.plan", "--format", "json", environ=environ)
    assert result.code == 0, result.err
    document: dict[str, object] = result.json()
    return document


def test_the_event_says_what_to_compare_with(project: Project, tmp_path: Path) -> None:
    before = project.commit({"ci.toml": RECIPES, "recipes/a.toml": ""})
    project.commit({"recipes/b.toml": ""})
    project.commit({"recipes/c.toml": ""})
    repository = {"default_branch": "main"}
    project.git("update-ref", "refs/remotes/origin/main", before)
    pushed = event(project, tmp_path, "push", {"before": before, "repository": repository})
    assert pushed["base"] == before
    new = event(
        project, tmp_path, "push", {"before": "0" * 40, "repository": repository}, GITHUB_REF_NAME="topic"
    )
    assert new["base"] == before
    first = event(
        project, tmp_path, "push", {"before": "0" * 40, "repository": repository}, GITHUB_REF_NAME="main"
    )
    assert first["base"] is None
    request = event(project, tmp_path, "pull_request", {}, GITHUB_BASE_REF="main")
    assert request["base"] == before
    queued = event(project, tmp_path, "merge_group", {"merge_group": {"base_sha": before}})
    assert queued["base"] == before
    for name in ("schedule", "workflow_dispatch", "release", "something_new"):
        assert event(project, tmp_path, name, {})["base"] is None
    tag = event(
        project, tmp_path, "push", {"before": "0" * 40, "repository": repository}, GITHUB_REF_TYPE="tag"
    )
    assert tag["base"] is None
    assert event(project, tmp_path, "merge_group", {})["base"] is None


def test_a_force_push_to_the_default_branch_runs_everything(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": ""})
    head = project.commit({"recipes/b.toml": ""})
    project.git("update-ref", "refs/remotes/origin/main", head)
    values = {"before": "d" * 40, "repository": {"default_branch": "main"}}
    document = event(project, tmp_path, "push", values, GITHUB_REF_NAME="main")
    assert document["base"] is None
    assert "since dddddddddddd is not in this clone" in str(document["because"])


@pytest.mark.parametrize("name", ["pull_request_target", "workflow_run"])
def test_an_event_that_runs_strangers_code_with_secrets_is_refused(project: Project, name: str) -> None:
    project.commit({"ci.toml": RECIPES})
    result = project.invoke("ci.plan", environ={"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": name})
    assert result.code == 2
    assert f"refusing the event {name}" in result.err


def test_a_git_that_fails_is_seen_though_child_signals_were_ignored(project: Project) -> None:
    project.commit({"ci.toml": RECIPES})
    script = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", script, *project.command("ci.plan", "--base", "nowhere")]
    done = subprocess.run(
        command, cwd=project.root, env=dict(project.environ), capture_output=True, check=False
    )
    assert done.returncode == 2


def test_a_first_commit_on_buildkite_runs_everything(project: Project) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": ""})
    project.git("checkout", "--quiet", "--orphan", "fresh")
    project.commit()
    environ = {"BUILDKITE": "true", "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main", "BUILDKITE_BRANCH": "main"}
    document = project.invoke("ci.plan", "--format", "json", environ=environ).json()
    assert document["base"] is None


def test_the_chain_from_a_change_to_a_job_is_explained(project: Project) -> None:
    project.commit(
        {"ci.toml": RECIPES, "recipes/same.toml": "", "recipes/gone.toml": "", "recipes/discovery/d.toml": ""}
    )
    (project.root / "recipes/gone.toml").unlink()
    project.commit({"recipes/new.toml": "[metadata]\nsupported_os = ['linux']\n"})

    def explained(name: str) -> str:
        result = project.invoke("ci.explain", name)
        assert result.code == 0, result.err
        return result.out

    new = explained("new")
    assert "new in the suite recipes (recipes/new.toml)" in new
    assert "selected: recipes/new.toml: added" in new
    assert "linux-amd64: runs in the job recipes-linux-amd64-1" in new
    assert 'darwin-arm64: left out: `metadata.supported_os` is ["linux"], without `darwin`' in new
    same = explained("recipes/same.toml")
    assert "not selected: neither its file nor one that concerns every item has changed" in same
    assert "darwin-arm64: would run" in same
    assert "everywhere: left out: deleted" in explained("gone")
    assert "everywhere: left out: `exclude` has `recipes/discovery/**`" in explained("d")
    unknown = project.invoke("ci.explain", "nwe")
    assert unknown.code == 2
    assert "no suite has an item `nwe`; did you mean `new`?" in unknown.err
