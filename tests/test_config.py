"""Every mistake in `ci.toml` is named with its key, all of them at once."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from conftest import Project, toml

from ci_tasks import config, settings
from ci_tasks.errors import ConfigError

DATA = Path(__file__).parent / "data"


def loaded(tmp_path: Path, text: str) -> settings.Config:
    path = tmp_path / "ci.toml"
    path.write_text(text, encoding="utf-8")
    return config.load(path)


def problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    return caught.value.problems


def test_the_real_projects_file_is_read_as_written() -> None:
    read = config.load(DATA / "tsuku.ci.toml")
    recipes, golden, integration, essentials = read.suites
    assert [platform.strategy for platform in read.platforms] == ["each", "single", "single"]
    assert recipes.command == ("./tsuku", "install", "--force", "--recipe", "{path}")
    assert recipes.setup == (("go", "build", "-o", "tsuku", "./cmd/tsuku"),)
    assert recipes.cache == settings.Cache(mode="copy", path=PurePosixPath("cache/downloads"), variable="")
    assert recipes.timeout == 600
    assert recipes.metadata is not None
    assert recipes.metadata.exceptions == ("metadata", "unsupported_platforms")
    assert golden.platforms == ("linux-amd64", "darwin-arm64", "darwin-amd64")
    assert integration.items_from[:2] == ("jq", "-c")
    assert integration.items_from[-1] == "test-matrix.json"
    assert [item.name for item in essentials.items][:2] == ["pkg-config", "cmake"]
    assert read.pool("macos").price == 0.062


def test_the_buildkite_half_is_read_as_written() -> None:
    read = config.load(DATA / "bun.ci.toml")
    platform = read.platform("darwin-arm64")
    assert platform.buildkite is not None
    assert dict(platform.buildkite.agents)["queue"] == "darwin"
    assert platform.vm == settings.Vm(
        image="bun-build-macos-14", ensure=("scripts/build-macos-vm.sh", "--release=14")
    )
    assert [step.key for step in read.pipelines[0].steps][-1] == "link-bun"


MISTAKES = [
    ('comand = "true"', "suites.suite.comand: unknown key; did you mean `command`?"),
    (
        'timeout = "ten"',
        'suites.suite.timeout: expected a duration such as "90s", "10m" or "1h30m", longer than nothing, got \'ten\'',
    ),
    ('timeout = "0s"', "longer than nothing, got '0s'"),
    ("timeout = 600", "suites.suite.timeout: expected a duration"),
    (
        'platforms = ["linux-amd46"]',
        "suites.suite.platforms[0]: there is no platform `linux-amd46`; did you mean",
    ),
    ("platforms = []", "an empty list means nothing would ever run"),
    ('include = ["a/**"]', "needs exactly one of `include`, `items` and `items-from`; got include and items"),
    ('exclude = ["a/**"]', "suites.suite.exclude: belongs to `include`"),
    ('cache = { mode = "copie" }', "suites.suite.cache.mode: expected one of `variable`, `copy`"),
    ('cache = { mode = "copy" }', "suites.suite.cache.path: mode `copy` needs the place"),
    ('cache = { path = "../x", mode = "copy" }', "relative and without `..`"),
    ('home = "not a name"', "suites.suite.home: expected the name of an environment variable"),
    ('env = { "A-B" = "x" }', "expected the name of an environment variable"),
    ("env = { A = 1 }", "suites.suite.env.A: expected a string, got a number (1)"),
    ('pass-env = ["A B"]', "suites.suite.pass-env[0]: expected the name of an environment variable"),
    ('setup = ["a && b"]', "suites.suite.setup[0]: no shell reads this, so `&&` means nothing here"),
    ('setup = ["a \'b"]', "cannot be split into words: no closing quotation"),
    ('setup = ["go {roto}"]', "unknown placeholder `{roto}`; did you mean `root`?"),
    ('run-all = ["/abs/**"]', "suites.suite.run-all[0]: expected a path pattern relative to ci.toml"),
    ('triggers = ["x[z-a]"]', "suites.suite.triggers[0]: 'x[z-a]' is no pattern: bad character range"),
    ('triggers = ["a/{name}"]', "no placeholders here, got `{name}`"),
    ('workflow = "ci.yml"', "expected a file directly in .github/workflows/"),
    ('setup = ["echo {name}"]', "suites.suite.setup: unknown placeholder `{name}`"),
    ("platforms = [1]", "suites.suite.platforms[0]: expected a string, got a number (1)"),
    ('exclusions = "../x.json"', "suites.suite.exclusions: expected a path below the folder of the file"),
    (f'timeout = "1{"0" * 5000}s"', "suites.suite.timeout: expected a duration"),
    ('setup = [""]', "suites.suite.setup[0]: expected a command"),
    ('setup = [["", "x"]]', "suites.suite.setup[0]: expected a command"),
    ("default = 1", "suites.suite.default: expected true or false, got a number (1)"),
    ('setup = [""]', "suites.suite.setup[0]: expected a command"),
]


@pytest.mark.parametrize(("line", "expected"), MISTAKES)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, line: str, expected: str) -> None:
    found = problems(tmp_path, toml(more=line))
    assert len(found) == 1
    assert expected in found[0]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = toml(more='comand = "x"\ntimeout = "soon"\nhome = "1"', top="[pools.mac]\nslots = 0\n[platform.x]")
    found = problems(tmp_path, text)
    assert len(found) == 5
    assert any(
        "pools.mac.slots: expected a whole number of at least 1, got a number (0)" in line for line in found
    )
    assert any("platform: unknown key; did you mean `platforms`?" in line for line in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[suites.x]\nitems = ['a']", "platforms: at least one is needed"),
        ("[platforms.linux-amd64]", "suites: at least one suite or pipeline is needed"),
        ("[platforms.linux-amd64]\npool = 'mac'\n[suites.x]\nitems=['a']", "there is no pool `mac`"),
        ("[platforms.linux-amd64]\n[suites.x]\ncommand = 'a'", "suites.x: a suite needs exactly one of"),
        ("[platforms.linux-amd64]\n[suites.x]\ninclude = []", "an empty list means nothing would ever run"),
        (
            "[platforms.a-]\n[suites.x]\nitems = ['a']",
            "platforms.a-: a platform is named system-architecture",
        ),
        (
            "[platforms.linux-amd64]\n[suites.x]\nitems = ['a']\n[github]\njob-limit = '30s'",
            "github.job-limit: expected at least 1200s",
        ),
        (
            "[platforms.linux-amd64]\n[suites.x]\nitems = ['a']\n[pools.m]\nprice = -1",
            "pools.m.price: expected a number that is not negative",
        ),
        (
            "[platforms.linux-amd64]\n[pipelines.x]\npath = '/etc/x'",
            "pipelines.x.path: expected a path below",
        ),
        ("[platforms.linux-amd64]\n[suites.x]\nitems = ['a', 'a']", "`a` is listed 2 times"),
        (
            "[platforms.linux-amd64]\n[suites.x]\ninclude = ['{nam}.toml']",
            "unknown placeholder `{nam}`; did you mean `name`?",
        ),
        ("[platforms.linux-amd64]\n[suites.x]\ninclude = ['a/../b']", "without `./`, `..` and `!`"),
        ("[platforms.linux-amd64]\n[suites.x]\ninclude = ['a']\ntriggers = ['b']", "use `run-all`"),
        ("[platforms.linux-amd64]\n[suites.'a b']\nitems = ['a']", "expected a name of letters, digits"),
        ("[platforms.linux]\n[suites.x]\nitems = ['a']", "named system-architecture"),
        ("[platforms.linux-amd64]\nstrategy = 'singel'\n[suites.x]\nitems = ['a']", "did you mean `single`?"),
        (
            "[platforms.linux-amd64]\n[pipelines.p]\nsteps = [{key = 'a', needs = ['b']}]",
            "there is no earlier step `b`",
        ),
    ],
)
def test_mistakes_outside_a_suite_are_named_too(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in line for line in problems(tmp_path, text))


def test_two_suites_cannot_share_a_workflow(tmp_path: Path) -> None:
    workflow = 'workflow = ".github/workflows/a.yml"'
    text = toml(more=f"{workflow}\n[suites.other]\nitems = ['x']\n{workflow}")
    assert problems(tmp_path, text) == (
        "suites.other.workflow: `.github/workflows/a.yml` belongs to the suite `suite` already",
    )


def test_text_that_is_not_toml_is_named_with_its_line(project: Project) -> None:
    project.write({"ci.toml": "[platforms\n"})
    result = project.invoke("ci.plan")
    assert result.code == 2
    assert "is not valid TOML" in result.err
    assert "line 1" in result.err


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = 1" + "0" * 5000])
def test_what_toml_cannot_read_is_a_mistake_and_no_bug(project: Project, text: str) -> None:
    project.write({"ci.toml": text})
    assert project.invoke("ci.plan").code == 2


def test_an_escaped_quote_in_a_command_is_understood(tmp_path: Path) -> None:
    assert loaded(tmp_path, toml('echo "a\\"b" {name}')).suites[0].command == ("echo", 'a"b', "{name}")


def test_a_missing_file_is_explained(project: Project) -> None:
    result = project.invoke("ci.plan")
    assert result.code == 2
    assert "no ci.toml in" in result.err
    assert "hint: write one" in result.err


def test_a_quoted_operator_is_a_word_like_any_other(tmp_path: Path) -> None:
    read = loaded(tmp_path, toml("test a '>' b"))
    assert read.suites[0].command == ("test", "a", ">", "b")


def test_a_command_in_a_list_is_taken_as_it_is(tmp_path: Path) -> None:
    read = loaded(tmp_path, toml(["sh", "-c", "a && b | c"]))
    assert read.suites[0].command == ("sh", "-c", "a && b | c")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2.5s", 2.5), ("1h1m1s", 3661)]
)
def test_durations_are_read_in_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    assert loaded(tmp_path, toml(more=f'timeout = "{text}"')).suites[0].timeout == seconds


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    suite = loaded(tmp_path, toml()).suites[0]
    assert (suite.timeout, suite.default, suite.cache, suite.pass_env) == (600, True, None, ())
    platforms = loaded(tmp_path, toml()).platforms
    assert {platform.name: platform.strategy for platform in platforms}["darwin-arm64"] == "single"
