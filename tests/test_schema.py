"""The schema that editors check `ci.toml` with agrees with the reader, which decides."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from ci_tasks import config, reading, settings
from ci_tasks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
EXAMPLES = Path(__file__).with_name("data")
SCHEMA: dict[str, Any] = json.loads(
    Path(config.__file__).with_name("ci.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)

BASE = """
[platforms.linux-amd64]
[suites.base]
items = ["one"]
"""
"""What every small file below ends with: enough to be valid."""

MISTAKES = [
    ("suite", "[suite.s]\nitems = ['a']"),
    ("templates", "templates = ''"),
    ("pools.macos.slots", "[pools.macos]\nslots = 0"),
    ("pools.macos.slots", "[pools.macos]\nslots = '5'"),
    ("pools.macos.semaphore", "[pools.macos]\nsemaphore = 1"),
    ("pools.-macos", "[pools.-macos]"),
    ("platforms.darwin", "[platforms.darwin]"),
    ("platforms.darwin-arm64.strategy", "[platforms.darwin-arm64]\nstrategy = 'singel'"),
    ("platforms.darwin-arm64.runs-on", "[platforms.darwin-arm64]\nruns-on = 15"),
    ("platforms.darwin-arm64.threshold", "[platforms.darwin-arm64]\nthreshold = -1"),
    (
        "platforms.darwin-arm64.buildkite.agents.tart",
        "[platforms.darwin-arm64.buildkite]\nagents = { tart = true }",
    ),
    ("platforms.darwin-arm64.buildkite.affinity", "[platforms.darwin-arm64.buildkite]\naffinity = 'group'"),
    ("platforms.darwin-arm64.vm.image", "[platforms.darwin-arm64.vm]\nensure = 'true'"),
    ("github.python", "[github]\npython = 3.12"),
    ("github.python", "[github]\npython = '3'"),
    ("github.branches[1]", "[github]\nbranches = ['main', '']"),
    ("github.job-limit", "[github]\njob-limit = '0h0m'"),
    ("suites.s", "[suites.s]\ncommand = 'true'"),
    ("suites.s", "[suites.s]\nitems = ['a']\ninclude = ['a/*']"),
    ("suites.s.exclude", "[suites.s]\nitems = ['a']\nexclude = ['a/*']"),
    ("suites.s.metadata", "[suites.s]\nitems-from = 'ls'\nmetadata = { os = 'os' }"),
    ("suites.s.triggers", "[suites.s]\ninclude = ['a/*']\ntriggers = ['b/*']"),
    ("suites.s.timout", "[suites.s]\nitems = ['a']\ntimout = '5m'"),
    ("suites.s.timeout", "[suites.s]\nitems = ['a']\ntimeout = '5 minutes'"),
    ("suites.s.timeout", "[suites.s]\nitems = ['a']\ntimeout = ''"),
    ("suites.s.timeout", "[suites.s]\nitems = ['a']\ntimeout = 300"),
    ("suites.s.platforms", "[suites.s]\nitems = ['a']\nplatforms = []"),
    ("suites.s.workflow", "[suites.s]\nitems = ['a']\nworkflow = '.github/workflows/deep/s.yml'"),
    ("suites.s.include[0]", "[suites.s]\ninclude = ['../a/*']"),
    ("suites.s.include[0]", "[suites.s]\ninclude = ['a/{nam}.toml']"),
    ("suites.s.include[0]", "[suites.s]\ninclude = ['{name}/{name}.toml']"),
    ("suites.s.run-all[0]", "[suites.s]\ninclude = ['a/*']\nrun-all = ['./b']"),
    ("suites.s.triggers[0]", "[suites.s]\nitems = ['a']\ntriggers = ['b/{name}']"),
    ("suites.s.items", "[suites.s]\nitems = ['a', 'b', 'a']"),
    ("suites.s.items[1]", "[suites.s]\nitems = ['a', 1]"),
    ("suites.s.items[0].name", "[suites.s]\nitems = [{ path = 'a' }]"),
    ("suites.s.items[0].arg", "[suites.s]\nitems = [{ name = 'a', arg = 'b' }]"),
    ("suites.s.setup", "[suites.s]\nitems = ['a']\nsetup = 'make'"),
    ("suites.s.setup[0]", "[suites.s]\nitems = ['a']\nsetup = [[]]"),
    ("suites.s.command", "[suites.s]\nitems = ['a']\ncommand = ' '"),
    ("suites.s.command", "[suites.s]\nitems = ['a']\ncommand = 'make && make test'"),
    ("suites.s.command", "[suites.s]\nitems = ['a']\ncommand = '''echo it's'''"),
    ("suites.s.home", "[suites.s]\nitems = ['a']\nhome = '$HOME'"),
    ("suites.s.env.A-B", "[suites.s]\nitems = ['a']\nenv = { A-B = '1' }"),
    ("suites.s.env.A", "[suites.s]\nitems = ['a']\nenv = { A = 1 }"),
    ("suites.s.pass-env[0]", "[suites.s]\nitems = ['a']\npass-env = ['*']"),
    ("suites.s.cache.path", "[suites.s]\nitems = ['a']\ncache = { mode = 'copy' }"),
    ("suites.s.cache.path", "[suites.s]\nitems = ['a']\ncache = { path = '/var/cache' }"),
    ("suites.s.cache.path", "[suites.s]\nitems = ['a']\ncache = { path = './' }"),
    ("suites.s.default", "[suites.s]\nitems = ['a']\ndefault = 'no'"),
    ("pipelines.p.steps[0].key", "[pipelines.p]\nsteps = [{ command = 'make' }]"),
    ("pipelines.p.steps[0]", "[pipelines.p]\nsteps = ['make']"),
]
"""The key that the reader names, and what stands above `BASE`; one mistake each."""

VARIANTS = [
    "",
    "templates = 'ci/templates'",
    "[pools.free]",
    "[pools.macos]\nslots = 5\nprice = 0.062\nsemaphore = true",
    "[pools.macos]\nprice = 1",
    "[platforms.linux-debian-amd64]\nruns-on = ['self-hosted', 'debian']",
    "[platforms.darwin-arm64]\nstrategy = 'hybrid'\nthreshold = 0\njobs = 3",
    "[platforms.darwin-arm64]\nstrategy = 'fixed'\nsize = 1",
    "[platforms.darwin-arm64.buildkite]\naffinity = 'fuse'\nagents = { queue = '' }",
    "[platforms.darwin-arm64.vm]\nimage = 'sonoma'\nensure = ['tart', 'clone', 'sonoma']",
    "[github]\nruns-on = 'self-hosted'\npython = '3.14'\ninstall = 'pip install .'\nbranches = []\njob-limit = '1h30m'",
    "[suites.s]\ninclude = ['**/{name}/v{version}-{platform}.[jt]s*']\nexclude = ['a/**']\ntriggers = []",
    "[suites.s]\ninclude = ['a..b/.github/*']\nmetadata = { os = 'a.b', arch = 'c', except = 'd', depends = 'e' }",
    "[suites.s]\nitems = []",
    "[suites.s]\nitems = ['a', { name = 'b', path = 'b/c', args = '-v', platforms = [] }, { name = 'd', args = ['e'] }]",
    "[suites.s]\nitems-from = ['jq', '-c', '.items[] | .name', 'items.json']\nrun-all = ['**']\ntriggers = ['go.mod']",
    """[suites.s]\nitems-from = "jq '.a | .b' items.json"\nsetup = ['make', ['sh', '-c', 'a && b']]""",
    """[suites.s]\nitems = ['a']\ncommand = 'run "a && b" c\\"d e|f'""",
    "[suites.s]\nitems = ['a']\ncommand = './run {name} {args}'\ntimeout = '2.5s'\nhome = 'TOOL_HOME'\ndefault = false",
    "[suites.s]\nitems = ['a']\nenv = { A_1 = '', B = '{root}' }\npass-env = ['TOKEN', 'MAYBE?', 'PIP_*']",
    "[suites.s]\nitems = ['a']\ncache = {}\nworkflow = '.github/workflows/s.yaml'",
    "[suites.s]\nitems = ['a']\ncache = { mode = 'symlink', path = './a/..b', variable = 'CACHE' }",
    "[suites.s]\nitems = ['a']\nplatforms = ['linux-amd64']\nexclusions = 'known.json'",
    "[pipelines.p]",
    "[pipelines.p]\npath = '.buildkite/p.yml'\nplatforms = ['linux-amd64']\nsteps = [{ key = 'a', label = 'A', command = 'a && b' }]",
    "[[pipelines.p.steps]]\nkey = 'a'\ncommand = 'make'\n[[pipelines.p.steps]]\nkey = 'b'\ncommand = 'make b'\nneeds = ['a']",
]
"""What stands above `BASE` and is right."""

WHOLE_MISTAKES = [
    "",
    "[suites.base]\nitems = ['one']",
    "platforms = {}\n[suites.base]\nitems = ['one']",
    "[platforms.linux-amd64]",
    "[platforms.linux-amd64]\n[suites]\n[pipelines]",
    "platforms = ['linux-amd64']\n[suites.base]\nitems = ['one']",
    "[platforms]\nlinux-amd64 = 'ubuntu-24.04'\n[suites.base]\nitems = ['one']",
]
"""Whole files that are wrong."""


class Asked(dict[str, Any]):
    """A TOML table that remembers which keys it was asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None, /) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def read(values: dict[str, Any]) -> tuple[settings.Config, list[str]]:
    """Do what `config.load` does with a file that has these values; return the mistakes, too."""
    problems: list[str] = []
    return config._config(ROOT, reading.Table(values, "", problems)), problems  # noqa: SLF001  # `load` takes text only


def mistakes(text: str, folder: Path) -> tuple[str, ...]:
    """Return the mistakes that the reader finds in a file."""
    path = folder / settings.FILE
    path.write_text(text, encoding="utf-8")
    try:
        config.load(path)
    except ConfigError as error:
        return error.problems or (str(error),)
    return ()


def refused(text: str) -> list[str]:
    """Return the places of the mistakes that the schema finds, written as the reader writes them."""
    return [_written(error.absolute_path) for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def _written(path: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with what its `$ref` points to, if it has one."""
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    return {**resolved(SCHEMA["$defs"][name]), **schema} if name else schema


def example(schema: dict[str, Any], path: str, found: dict[str, tuple[Asked, dict[str, Any]]]) -> Any:
    """Return a value in which every table of a schema is there; `None` where it has no tables.

    :param found: gets each table by its path, with the schemas of its keys
    """
    schema = resolved(schema)
    if "properties" in schema:
        values = {key: example(inner, f"{path}.{key}", found) for key, inner in schema["properties"].items()}
        table = Asked({key: value for key, value in values.items() if value is not None})
        found[path.removeprefix(".")] = table, schema["properties"]
        return table
    if "additionalProperties" in schema:
        value = example(schema["additionalProperties"], f"{path}.any-name", found)
        return None if value is None else {"any-name": value}
    inner = schema.get("items", {})
    entries = [example(option, f"{path}[]", found) for option in inner.get("oneOf", [inner] if inner else [])]
    return [entry for entry in entries if entry is not None] or None


def subschemas(value: object) -> Iterator[dict[str, Any]]:
    """Yield every table inside the schema's JSON, itself included."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from subschemas(inner)


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_has_the_keys_that_the_reader_asks_for() -> None:
    found: dict[str, tuple[Asked, dict[str, Any]]] = {}
    read(example(SCHEMA, "", found))
    assert {path: sorted(table.asked) for path, (table, _) in found.items()} == {
        path: sorted(keys) for path, (_, keys) in found.items()
    }


def test_schema_gives_the_defaults_that_the_reader_has() -> None:
    found: dict[str, tuple[Asked, dict[str, Any]]] = {}
    values = example(SCHEMA, "", found)
    values["platforms"] = {"linux-amd64": values["platforms"]["any-name"]}
    for path, required in (
        ("suites.any-name.items[]", "name"),
        ("pipelines.any-name.steps[]", "key"),
        ("pipelines.any-name.steps[]", "command"),
        ("platforms.any-name.vm", "image"),
    ):
        found[path][0][required] = "x"
    del values["suites"]["any-name"]["metadata"]
    silent = read(values)
    assert silent[1] == []
    for table, keys in found.values():
        table.update(
            {key: resolved(inner)["default"] for key, inner in keys.items() if "default" in resolved(inner)}
        )
    assert read(values) == silent


def test_schema_offers_the_words_that_the_reader_knows() -> None:
    offered = {
        key: tuple(inner["enum"])
        for table in SCHEMA["$defs"].values()
        for key, inner in table.get("properties", {}).items()
        if "enum" in inner
    }
    assert offered == {
        "strategy": settings.STRATEGIES,
        "affinity": settings.AFFINITIES,
        "mode": settings.CACHE_MODES,
    }


def test_schema_describes_every_key() -> None:
    found: dict[str, tuple[Asked, dict[str, Any]]] = {}
    example(SCHEMA, "", found)
    for path, (_, keys) in found.items():
        for key, inner in keys.items():
            assert resolved(inner)["description"].endswith("."), f"{path}.{key}"


def test_schema_names_every_placeholder_of_a_command() -> None:
    text = SCHEMA["$defs"]["suite"]["properties"]["command"]["description"]
    assert [name for name in settings.PLACEHOLDERS if f"{{{name}}}" not in text] == []


def test_schema_leaves_no_table_open() -> None:
    tables = [schema for schema in subschemas(SCHEMA) if schema.get("type") == "object"]
    assert [table for table in tables if "additionalProperties" not in table] == []
    assert [
        table for table in tables if "properties" in table and table["additionalProperties"] is not False
    ] == []


@pytest.mark.parametrize("path", [EXAMPLES / "tsuku.ci.toml", EXAMPLES / "bun.ci.toml", ROOT / "ci.toml"])
def test_full_files_are_accepted_by_both(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert (refused(text), mistakes(text, tmp_path)) == ([], ())


@pytest.mark.parametrize("text", VARIANTS)
def test_small_variants_are_accepted_by_both(text: str, tmp_path: Path) -> None:
    whole = f"{text}\n{BASE}"
    assert (refused(whole), mistakes(whole, tmp_path)) == ([], ())


@pytest.mark.parametrize(("key", "text"), MISTAKES)
def test_a_mistake_is_refused_by_both_at_the_same_place(key: str, text: str, tmp_path: Path) -> None:
    whole = f"{text}\n{BASE}"
    found, places = mistakes(whole, tmp_path), refused(whole)
    assert len(found) == 1
    assert found[0].startswith(key)
    assert places
    assert [place for place in places if not key.startswith(place)] == []


@pytest.mark.parametrize("text", WHOLE_MISTAKES)
def test_a_file_that_lacks_something_is_refused_by_both(text: str, tmp_path: Path) -> None:
    assert mistakes(text, tmp_path)
    assert refused(text)
