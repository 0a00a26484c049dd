"""The rendered workflow is the model it was made from, to the letter, whatever the configuration holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES, Project, toml
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from jinja2 import meta
from ruamel.yaml import YAML

from ci_tasks import config, github, plan, plan_document, render, settings
from ci_tasks.errors import RenderError

DATA = Path(__file__).parent / "data"


def document(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def rendered(suite: str, source: Path = DATA / "tsuku.ci.toml") -> tuple[str, Any]:
    read = config.load(source)
    text = render.workflow(read, read.suite(suite), "ci.").text
    return text, document(text)


SUITES = ("recipes", "golden", "integration", "essentials")


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("suite", SUITES)
def test_no_expression_stands_in_a_shell_line(suite: str) -> None:
    _, workflow = rendered(suite)
    lines = [step["run"] for step in steps(workflow) if "run" in step]
    assert lines
    assert not [line for line in lines if "${{" in line]
    assert all("\n" not in line and "|" not in line for line in lines)
    assert all(line.startswith("exec invoke ci.") for line in lines if "ci." in line)


@pytest.mark.parametrize("suite", SUITES)
def test_actions_are_pinned_with_their_version_in_a_comment(suite: str) -> None:
    text, _ = rendered(suite)
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for use in uses:
        found = re.fullmatch(r"([a-z/-]+)@([0-9a-f]{40})  # (v\d+\.\d+\.\d+)", use)
        assert found
        assert github.ACTIONS[found[1]] == (found[2], found[3])


@pytest.mark.parametrize("suite", SUITES)
def test_a_job_may_read_the_repository_and_nothing_more(suite: str) -> None:
    _, workflow = rendered(suite)
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["gate"]["permissions"] == {}
    others = [job for key, job in workflow["jobs"].items() if key != "gate"]
    assert all(job["permissions"] == {"contents": "read"} for job in others)
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(others)
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert all(job["timeout-minutes"] > 0 for job in workflow["jobs"].values())


def test_there_is_one_macos_job_per_architecture_and_one_linux_matrix() -> None:
    _, workflow = rendered("essentials")
    assert list(workflow["jobs"]) == [
        "detect-changes",
        "test-linux",
        "test-darwin-arm64",
        "test-darwin-amd64",
        "gate",
    ]
    assert workflow["jobs"]["test-darwin-amd64"]["runs-on"] == "macos-15-intel"
    _, workflow = rendered("recipes")
    assert list(workflow["jobs"]) == ["detect-changes", "test-linux", "test-darwin-arm64", "gate"]
    job = workflow["jobs"]["test-darwin-arm64"]
    assert job["if"] == "needs.detect-changes.outputs.has_macos == 'true'"
    assert job["steps"][-2]["run"].startswith("exec invoke ci.run-batch --arch darwin-arm64 --plan ")
    assert job["steps"][-2]["env"] == {"GITHUB_TOKEN": "${{ github.token }}"}
    assert job["steps"][-1]["if"] == "always()"
    linux = workflow["jobs"]["test-linux"]
    assert linux["strategy"] == {
        "fail-fast": False,
        "matrix": "${{ fromJSON(needs.detect-changes.outputs.linux_matrix) }}",
    }


def test_detect_has_the_outputs_of_the_seed() -> None:
    _, workflow = rendered("recipes")
    detect = workflow["jobs"]["detect-changes"]
    assert set(detect["outputs"]) == {"linux_matrix", "has_linux", "macos_items", "has_macos"}
    assert detect["steps"][0]["with"]["fetch-depth"] == 0


@pytest.mark.parametrize("suite", SUITES)
def test_the_gate_needs_every_job_and_always_runs(suite: str) -> None:
    _, workflow = rendered(suite)
    *others, last = workflow["jobs"]
    gate = workflow["jobs"][last]
    assert (last, gate["name"], gate["if"]) == ("gate", f"{suite} gate", "always()")
    assert gate["needs"] == others


@pytest.mark.parametrize("suite", SUITES)
def test_every_output_that_is_read_is_published(suite: str) -> None:
    text, workflow = rendered(suite)
    read = set(re.findall(r"needs\.detect-changes\.outputs\.(\w+)", text))
    assert read <= set(workflow["jobs"]["detect-changes"]["outputs"])
    parsed = config.load(DATA / "tsuku.ci.toml")
    nothing = plan.Plan(base="", head="h", worktree=False, because="", changed=0, suites=(), warnings=())
    assert set(workflow["jobs"]["detect-changes"]["outputs"]) <= set(plan_document.outputs(parsed, nothing))


def test_a_workflow_starts_on_the_patterns_that_select() -> None:
    _, workflow = rendered("recipes")
    expected = [
        "recipes/**/*.toml",
        "internal/recipe/recipes/**/*.toml",
        "!recipes/discovery/**",
        "**/*.go",
        "go.mod",
        "go.sum",
        "testdata/golden/execution-exclusions.json",
        ".github/workflows/test-changed-recipes.yml",
        "ci.toml",
    ]
    assert workflow["on"]["pull_request"]["paths"] == workflow["on"]["push"]["paths"] == expected
    _, golden = rendered("golden")
    assert golden["on"]["pull_request"]["paths"][0] == "testdata/golden/plans/**/*/v*-*.json"
    _, essentials = rendered("essentials")
    assert essentials["on"]["pull_request"] is None, "a list without triggers always runs"


def test_macos_in_several_jobs_becomes_a_matrix(tmp_path: Path) -> None:
    text = (
        (DATA / "tsuku.ci.toml")
        .read_text(encoding="utf-8")
        .replace('strategy = "single"', 'strategy = "adaptive"')
    )
    (tmp_path / "ci.toml").write_text(text, encoding="utf-8")
    _, workflow = rendered("essentials", tmp_path / "ci.toml")
    assert list(workflow["jobs"]) == ["detect-changes", "test-linux", "test-macos", "gate"]
    assert workflow["jobs"]["test-macos"]["strategy"]["max-parallel"] == 5
    assert "macos_matrix" in workflow["jobs"]["detect-changes"]["outputs"]


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert rendered("recipes")[0] == rendered("recipes")[0]


@limits(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text()
    | st.sampled_from(
        ["no", "on", "null", "08", "1e3", "0o7", "1_000", "12:30:45", "~", "=", "<<", "y", "${{ x }}"]
    )
)
def test_every_text_survives_its_way_through_yaml(text: str) -> None:
    from yaml import safe_load  # noqa: PLC0415  # YAML 1.1, as some readers are

    try:
        line = f"value: {render.scalar(text)}\n"
    except RenderError:
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in text)
        return
    assert document(line) == {"value": text}
    assert safe_load(line) == {"value": text}


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs", "Cc"])))
def test_hostile_labels_and_commands_stay_what_they_are(text: str) -> None:
    read = config.load(DATA / "tsuku.ci.toml")
    suite = read.suite("recipes")
    platform = settings.Platform(**{**vars(read.platform("darwin-arm64")), "runs_on": (text,)})
    own = settings.GitHub(**{**vars(read.github), "install": text, "branches": (text,)})
    values = {**vars(read), "platforms": (read.platforms[0], platform, read.platforms[2]), "github": own}
    workflow = document(render.workflow(settings.Config(**values), suite, "ci.").text)
    assert workflow["jobs"]["test-darwin-arm64"]["runs-on"] == text
    assert workflow["on"]["push"]["branches"] == [text]


@pytest.mark.parametrize(
    ("wanted", "found", "problem"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": True}, ".a is True, not 1"),
        ({"a": 1}, {}, ".a is missing"),
        ({"a": 1}, {"a": 1, "b": 2}, ".b was not asked for"),
        ({"a": [1, 2]}, {"a": [2, 1]}, ".a[0] is 2, not 1"),
        ({"a": [1]}, {"a": [1, 2]}, ".a is [1, 2], not [1]"),
        ({"a": {"b": "x"}}, {"a": {"b": "y"}}, ".a.b is 'y', not 'x'"),
    ],
)
def test_a_document_that_is_not_its_model_is_found_out(wanted: Any, found: Any, problem: str | None) -> None:
    assert next(iter(render.differences(wanted, found, exact=True)), None) == problem


def test_a_projects_own_template_wins_and_may_add_but_not_lose(project: Project) -> None:
    project.commit({"ci.toml": 'templates = "ci/templates"\n' + RECIPES})
    shipped = render.shipped()
    own = (shipped / "github-macros.yml.j2").read_text(encoding="utf-8")
    added = own.replace("    steps:\n", "    steps:\n      - name: Own\n        run: echo own\n")
    project.write({"ci/templates/github-macros.yml.j2": added})
    result = project.invoke("ci.render")
    assert result.code == 0, result.err
    workflow = document((project.root / ".github/workflows/recipes.yml").read_text(encoding="utf-8"))
    assert all(job["steps"][0] == {"name": "Own", "run": "echo own"} for job in workflow["jobs"].values())
    project.write({"ci/templates/github-macros.yml.j2": own.replace('("with", "env")', '("with",)')})
    lost = project.invoke("ci.render")
    assert lost.code == 2
    assert "does not keep what it was given" in lost.err
    project.write({"ci/templates/github-macros.yml.j2": own.replace("[= key =]:", "[= nothing =]:")})
    undefined = project.invoke("ci.render")
    assert undefined.code == 2
    assert "'nothing' is undefined" in undefined.err


def test_templates_use_what_they_are_given_and_nothing_else() -> None:
    read = config.load(DATA / "tsuku.ci.toml")
    environment = render.templates(read)
    used = set()
    for path in render.shipped().glob("*.j2"):
        assert environment.loader is not None
        source, _, _ = environment.loader.get_source(environment, path.name)
        used |= meta.find_undeclared_variables(environment.parse(source))
    assert used == {"header", "workflow", "versions"}


def test_files_are_written_checked_and_shown_when_stale(project: Project) -> None:
    project.commit({"ci.toml": RECIPES})
    missing = project.invoke("ci.render", "--check")
    assert missing.code == 1
    assert "stale: .github/workflows/recipes.yml" in missing.err
    assert not (project.root / ".github").exists()
    assert "written: .github/workflows/recipes.yml" in project.invoke("ci.render").err
    first = (project.root / ".github/workflows/recipes.yml").read_bytes()
    fresh = project.invoke("ci.render", "--check")
    assert (fresh.code, fresh.out) == (0, "")
    assert "up to date" in fresh.err
    project.invoke("ci.render")
    assert (project.root / ".github/workflows/recipes.yml").read_bytes() == first
    (project.root / ".github/workflows/recipes.yml").write_bytes(
        first.replace(b"fetch-depth: 0", b"fetch-depth: 1")
    )
    stale = project.invoke("ci.render", "--check")
    assert stale.code == 1
    assert "-          fetch-depth: 1\n+          fetch-depth: 0\n" in stale.out
    assert "hint: run `invoke ci.render`" in stale.err


def test_a_file_that_we_did_not_write_is_left_alone(project: Project) -> None:
    workflow = ".github/workflows/recipes.yml"
    project.commit({"ci.toml": RECIPES, workflow: "name: mine\n"})
    result = project.invoke("ci.render")
    assert result.code == 2
    assert f"{workflow} was not made by ci.render" in result.err
    assert (project.root / workflow).read_text(encoding="utf-8") == "name: mine\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toml(), "no suite has a `workflow`"),
        (RECIPES.replace('runs-on = "macos-15"', ""), "platforms.darwin-arm64 has no `runs-on`"),
    ],
)
def test_what_cannot_be_rendered_is_explained(project: Project, text: str, message: str) -> None:
    project.commit({"ci.toml": text})
    result = project.invoke("ci.render")
    assert result.code == 2
    assert message in result.err
    assert "hint: " in result.err


def test_a_project_in_a_folder_of_its_repository_is_told_that_github_would_not_see_it(
    project: Project,
) -> None:
    inside = Project(root=project.root / "sub", environ=project.environ)
    inside.write({"ci.toml": RECIPES, "tasks.py": "from ci_tasks import ns\n"})
    result = inside.invoke("ci.render")
    assert result.code == 2
    assert "is not the root of its repository" in result.err


def test_a_target_that_is_not_there_is_an_error(project: Project) -> None:
    project.commit({"ci.toml": RECIPES})
    assert project.invoke("ci.render", "--target", "gitlab").code == 2


def test_the_commands_carry_the_namespace_that_the_project_uses(project: Project) -> None:
    text = "from invoke.collection import Collection\nfrom ci_tasks import ci\n\nns = Collection()\nns.add_collection(ci, name='mac')\n"
    project.commit({"ci.toml": RECIPES, "tasks.py": text})
    project.invoke("mac.render")
    assert "exec invoke mac.plan --suite recipes" in (
        project.root / ".github/workflows/recipes.yml"
    ).read_text(encoding="utf-8")


def test_our_own_workflow_is_up_to_date() -> None:
    root = Path(__file__).parents[1]
    read = config.load(root / "ci.toml")
    for suite in read.suites:
        if suite.workflow:
            expected = render.workflow(read, suite, "ci.").text
            assert (root / suite.workflow).read_text(encoding="utf-8") == expected
    assert json.dumps([suite.name for suite in read.suites if not suite.default]) == '["misbehaving"]'
