"""`ci.toml`, read once, checked, frozen."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath

from ci_tasks import patterns
from ci_tasks.errors import ConfigError
from ci_tasks.reading import Table, suggestion
from ci_tasks.settings import (
    AFFINITIES,
    CACHE_MODES,
    FILE,
    PLACEHOLDERS,
    REQUIREMENTS,
    SETUP_PLACEHOLDERS,
    STRATEGIES,
    Buildkite,
    Cache,
    Config,
    FixedItem,
    GitHub,
    Metadata,
    Pipeline,
    Platform,
    Pool,
    Step,
    Suite,
    Vm,
)

_PLACEHOLDER = re.compile(r"\{([a-z]{3,10})\}")
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_PASSED_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*(?:\*|\?)?"


def find(start: Path) -> Path:
    """Return the nearest `ci.toml` in `start` or a folder above it.

    :raises ConfigError: when there is none.
    """
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ConfigError(
        f"no {FILE} in {start} or any folder above it",
        hint=f"write one beside tasks.py; a small one stands in the README under “A complete {FILE}”",
    )


def load(path: Path) -> Config:
    """Read and check the file.

    :raises ConfigError: with every mistake in it, each with its key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise ConfigError(f"{path} nests too deeply") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise ConfigError(f"{path} is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
    problems: list[str] = []
    config = _config(path.parent.resolve(), Table(values, "", problems))
    if problems:
        count = f"{len(problems)} mistakes" if len(problems) > 1 else "a mistake"
        raise ConfigError(f"{path.name} has {count}:", problems=tuple(problems))
    return config


def _config(root: Path, top: Table) -> Config:
    pools = top.named("pools", _pool)
    platforms = top.named("platforms", lambda name, table: _platform(name, table, pools))
    names = tuple(platform.name for platform in platforms)
    suites = top.named("suites", lambda name, table: _suite(name, table, names))
    pipelines = top.named("pipelines", lambda name, table: _pipeline(name, table, names))
    github = top.table("github", _github) or _github(Table({}, "github", []))
    templates = top.relative("templates")
    top.close()
    if not platforms:
        top.problem(
            "platforms",
            'at least one is needed, such as [platforms.linux-amd64] with runs-on = "ubuntu-24.04"',
        )
    if not suites and not pipelines:
        top.problem("suites", "at least one suite or pipeline is needed")
    _check_workflows(top, suites)
    return Config(
        root=root,
        templates=templates,
        pools=pools,
        platforms=platforms,
        suites=suites,
        pipelines=pipelines,
        github=github,
    )


def _check_workflows(top: Table, suites: tuple[Suite, ...]) -> None:
    owners: dict[str, str] = {}
    for suite in suites:
        owner = owners.setdefault(suite.workflow, suite.name) if suite.workflow else suite.name
        if owner != suite.name:
            top.problem(
                f"suites.{suite.name}.workflow", f"`{suite.workflow}` belongs to the suite `{owner}` already"
            )


def _pool(name: str, table: Table) -> Pool:
    return Pool(
        name=name,
        slots=table.count("slots", 5),
        price=table.number("price"),
        semaphore=table.flag("semaphore"),
    )


def _platform(name: str, table: Table, pools: tuple[Pool, ...]) -> Platform:
    known = {pool.name: pool.slots for pool in pools}
    pool = table.text("pool")
    if pool and pool not in known:
        table.problem("pool", f"there is no pool `{pool}`{suggestion(pool, known)}")
    if not re.fullmatch(r"[^-]+(-[^-]+)+", name):
        table.problem("", f'a platform is named system-architecture, such as "linux-amd64"; got {name!r}')
    if name.startswith(("macos-", "osx-", "mac-")):
        table.problem("", f"macOS is called darwin here: darwin-{name.rpartition('-')[2]}")
    macos = name.startswith("darwin-")
    return Platform(
        name=name,
        runs_on=table.text_or_texts("runs-on"),
        pool=pool,
        strategy=table.choice("strategy", STRATEGIES, "single" if macos else "each"),
        size=table.count("size", 10),
        jobs=table.count("jobs", known.get(pool, 5)),
        threshold=table.count("threshold", 10, least=0),
        buildkite=table.table("buildkite", _buildkite),
        vm=table.table("vm", _vm),
    )


def _buildkite(table: Table) -> Buildkite:
    return Buildkite(agents=table.mapping("agents"), affinity=table.choice("affinity", AFFINITIES, "none"))


def _vm(table: Table) -> Vm:
    return Vm(image=table.required("image"), ensure=table.command("ensure"))


def _github(table: Table) -> GitHub:
    return GitHub(
        runs_on=table.text("runs-on", "ubuntu-24.04"),
        python=table.text("python", "3.12", pattern=r"3\.\d+", expected='a Python version such as "3.12"'),
        install=_install(table),
        branches=table.texts("branches", ("main",)),
        job_limit=table.duration("job-limit", 6 * 3600, least=20 * 60),
    )


def _install(table: Table) -> str:
    line = table.text("install", f"python -m pip install --requirement {REQUIREMENTS}")
    if "${{" in line or "\n" in line:
        table.problem(
            "install",
            "expected one shell line without `${{ }}`, which would let an event's text into the shell",
        )
    return line


def _suite(name: str, table: Table, platforms: tuple[str, ...]) -> Suite:
    chosen = table.texts("platforms", platforms, empty=False)
    suite = Suite(
        name=name,
        workflow=table.text(
            "workflow",
            pattern=r"\.github/workflows/[A-Za-z0-9._-]+\.ya?ml",
            expected="a file directly in .github/workflows/, ending in .yml or .yaml",
        ),
        platforms=chosen,
        include=_patterns(table, "include", patterns.FIELDS),
        exclude=_patterns(table, "exclude"),
        run_all=_patterns(table, "run-all"),
        triggers=_patterns(table, "triggers"),
        items=table.tables("items", lambda entry: _fixed_item(entry, chosen), bare="name"),
        items_from=table.command("items-from"),
        setup=tuple(
            _placeholders(table, "setup", words, SETUP_PLACEHOLDERS) for words in table.commands("setup")
        ),
        command=_placeholders(table, "command", table.command("command")),
        timeout=table.duration("timeout", 600),
        home=table.text("home", pattern=_VARIABLE, expected="the name of an environment variable"),
        cache=table.table("cache", _cache),
        env=_environment(table),
        pass_env=_passed(table),
        exclusions=table.relative("exclusions"),
        metadata=table.table("metadata", _metadata),
        default=table.flag("default", default=True),
    )
    _check_platforms(table, chosen, platforms)
    _check_source(table, suite)
    return suite


def _check_platforms(table: Table, chosen: tuple[str, ...], platforms: tuple[str, ...]) -> None:
    for index, platform in enumerate(chosen):
        if platform not in platforms:
            table.problem(
                f"platforms[{index}]", f"there is no platform `{platform}`{suggestion(platform, platforms)}"
            )
    if len(set(chosen)) < len(chosen):
        table.problem("platforms", "a platform is listed twice")


def _check_source(table: Table, suite: Suite) -> None:
    given = [key for key in ("include", "items", "items-from") if table.has(key)]
    if len(given) != 1:
        found = f"got {' and '.join(given)}" if given else "got none of them"
        table.problem("", f"a suite needs exactly one of `include`, `items` and `items-from`; {found}")
    if suite.include and suite.triggers:
        table.problem(
            "triggers", "is for fixed lists (`items`, `items-from`); where items are files, use `run-all`"
        )
    if not suite.include:
        for key in ("exclude", "metadata"):
            if table.has(key):
                table.problem(key, "belongs to `include`, and this suite has none")
    names = [item.name for item in suite.items]
    for name in sorted({name for name in names if names.count(name) > 1}):
        table.problem("items", f"`{name}` is listed {names.count(name)} times")


def _fixed_item(table: Table, chosen: tuple[str, ...]) -> FixedItem:
    args = table.command("args") if table.has("args") else ()
    platforms = table.texts("platforms") if table.has("platforms") else None
    for index, platform in enumerate(platforms or ()):
        if platform not in chosen:
            table.problem(
                f"platforms[{index}]", f"the suite has no platform `{platform}`{suggestion(platform, chosen)}"
            )
    return FixedItem(name=table.required("name"), path=table.relative("path"), args=args, platforms=platforms)


def _patterns(table: Table, key: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    found = table.texts(key, empty=key != "include")
    for index, pattern in enumerate(found):
        place = f"{key}[{index}]"
        if pattern.startswith(("/", "!", "./")) or ".." in pattern.split("/"):
            table.problem(
                place,
                f"expected a path pattern relative to {FILE}, without `./`, `..` and `!`, got {pattern!r}",
            )
        fields = patterns.fields(pattern)
        for field in fields:
            if field not in known:
                what = "unknown placeholder" if known else "no placeholders here, got"
                table.problem(place, f"{what} `{{{field}}}`{suggestion(field, known)}")
        if len(set(fields)) < len(fields):
            table.problem(place, f"a placeholder stands twice in {pattern!r}")
        elif patterns.problem(pattern):
            table.problem(place, f"{pattern!r} is no pattern: {patterns.problem(pattern)}")
    return found


def _placeholders(
    table: Table, key: str, words: tuple[str, ...], known: tuple[str, ...] = PLACEHOLDERS
) -> tuple[str, ...]:
    """Report placeholders that mean nothing here; other words in braces may well be the command's own."""
    for name in (name for word in words for name in _PLACEHOLDER.findall(word) if name not in known):
        near = suggestion(name, known)
        if near or name in PLACEHOLDERS:
            table.problem(key, f"unknown placeholder `{{{name}}}`{near}")
    return words


def _environment(table: Table) -> tuple[tuple[str, str], ...]:
    pairs = table.mapping("env")
    for name, value in pairs:
        if not re.fullmatch(_VARIABLE, name, re.ASCII):
            table.problem(f"env.{name}", "expected the name of an environment variable")
        _placeholders(table, f"env.{name}", (value,))
    return pairs


def _passed(table: Table) -> tuple[str, ...]:
    names = table.texts("pass-env")
    for index, name in enumerate(names):
        if not re.fullmatch(_PASSED_VARIABLE, name, re.ASCII):
            table.problem(
                f"pass-env[{index}]",
                f"expected the name of an environment variable, with `?` behind it when it may be unset, or `PREFIX_*`; got {name!r}",
            )
    return names


def _cache(table: Table) -> Cache:
    mode = table.choice("mode", CACHE_MODES, "variable")
    path = table.text("path")
    if mode != "variable" and not path:
        table.problem("path", f"mode `{mode}` needs the place of the cache inside an item's home")
    if path and (path.startswith("/") or ".." in path.split("/") or PurePosixPath(path) == PurePosixPath()):
        table.problem(
            "path", f"expected a path inside an item's home, relative and without `..`, got {path!r}"
        )
    variable = table.text("variable", pattern=_VARIABLE, expected="the name of an environment variable")
    return Cache(mode=mode, path=PurePosixPath(path) if path else None, variable=variable)


def _metadata(table: Table) -> Metadata:
    def keys(name: str) -> tuple[str, ...]:
        return tuple(part for part in table.text(name).split(".") if part)

    return Metadata(os=keys("os"), arch=keys("arch"), exceptions=keys("except"), depends=keys("depends"))


def _pipeline(name: str, table: Table, platforms: tuple[str, ...]) -> Pipeline:
    chosen = table.texts("platforms", platforms, empty=False)
    _check_platforms(table, chosen, platforms)
    steps = table.tables("steps", _step)
    keys = [step.key for step in steps]
    for index, step in enumerate(steps):
        for needed in step.needs:
            if needed not in keys[:index]:
                table.problem(
                    f"steps[{index}].needs",
                    f"there is no earlier step `{needed}`{suggestion(needed, keys[:index])}",
                )
    if len(set(keys)) < len(keys):
        table.problem("steps", "two steps have the same key")
    return Pipeline(
        name=name, path=table.relative("path", ".buildkite/pipeline.yml"), platforms=chosen, steps=steps
    )


def _step(table: Table) -> Step:
    return Step(
        key=table.required("key"),
        command=table.required("command"),
        needs=table.texts("needs"),
        label=table.text("label"),
    )
