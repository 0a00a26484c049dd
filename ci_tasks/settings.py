"""What `ci.toml` says, as frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ci_tasks.errors import ConfigError
from ci_tasks.reading import suggestion

FILE = "ci.toml"
STRATEGIES = ("each", "single", "fixed", "adaptive", "hybrid")
CACHE_MODES = ("variable", "copy", "hardlink", "symlink")
AFFINITIES = ("pin", "fuse", "none")
PLACEHOLDERS = ("name", "path", "version", "platform", "args", "root", "home", "cache", "python")
"""What `{…}` may name in a command and in `env`."""
SETUP_PLACEHOLDERS = ("root", "cache", "python")
"""What it may name in `setup`, which no item has a part in."""
REQUIREMENTS = "requirements.txt"
"""Where a project names ci_tasks for its CI jobs, unless `github.install` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    name: str
    slots: int
    price: float | None
    """USD for one minute of one job; `None` where runners are free."""
    semaphore: bool


@dataclass(frozen=True, kw_only=True)
class Buildkite:
    agents: tuple[tuple[str, str], ...]
    affinity: str


@dataclass(frozen=True, kw_only=True)
class Vm:
    image: str
    ensure: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A platform such as `darwin-arm64` or `linux-debian-amd64`: system, family if any, architecture."""

    name: str
    runs_on: tuple[str, ...]
    """Labels of the GitHub runner; several mean a runner that has all of them."""
    pool: str
    strategy: str
    size: int
    """Items in a job, for `fixed`."""
    jobs: int
    """Jobs at most, for `adaptive` and `hybrid`; the slots of the pool unless the file says otherwise."""
    threshold: int
    """Items up to which `hybrid` gives each a job of its own."""
    buildkite: Buildkite | None
    vm: Vm | None

    @property
    def system(self) -> str:
        return self.name.partition("-")[0]

    @property
    def architecture(self) -> str:
        return self.name.rpartition("-")[2]

    @property
    def family(self) -> str:
        return "-".join(self.name.split("-")[1:-1])


@dataclass(frozen=True, kw_only=True)
class Cache:
    mode: str
    path: PurePosixPath | None
    """Where the cache stands inside an item's home; `None` in mode `variable` without one."""
    variable: str
    """Name of the variable that tells an item where the cache is; empty for none."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Where an item's own file names its platforms, as keys from the outside in; empty for nowhere."""

    os: tuple[str, ...]
    arch: tuple[str, ...]
    exceptions: tuple[str, ...]
    depends: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FixedItem:
    name: str
    path: str
    args: tuple[str, ...]
    platforms: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Suite:
    name: str
    workflow: str
    platforms: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    run_all: tuple[str, ...]
    triggers: tuple[str, ...]
    items: tuple[FixedItem, ...]
    items_from: tuple[str, ...]
    setup: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    timeout: float
    """Seconds that one item may take."""
    home: str
    cache: Cache | None
    env: tuple[tuple[str, str], ...]
    pass_env: tuple[str, ...]
    exclusions: str
    metadata: Metadata | None
    default: bool

    @property
    def fixed(self) -> bool:
        """Whether the items are a list that is given, rather than files that are found."""
        return not self.include


@dataclass(frozen=True, kw_only=True)
class Step:
    key: str
    command: str
    """A line for the shell of the Buildkite agent, as it is."""
    needs: tuple[str, ...]
    label: str


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    name: str
    path: str
    platforms: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class GitHub:
    """What rendered workflows need besides the suites."""

    runs_on: str
    python: str
    install: str
    """Shell line that makes `invoke` and ci_tasks available in a job."""
    branches: tuple[str, ...]
    """Branches whose pushes start the workflows."""
    job_limit: float
    """Seconds after which a batch job is ended."""


@dataclass(frozen=True, kw_only=True)
class Config:
    root: Path
    """Folder of `ci.toml`, absolute, without symbolic links."""
    templates: str
    pools: tuple[Pool, ...]
    platforms: tuple[Platform, ...]
    suites: tuple[Suite, ...]
    pipelines: tuple[Pipeline, ...]
    github: GitHub

    def platform(self, name: str) -> Platform:
        return self.platforms[_position(self.platforms, name, "platform")]

    def suite(self, name: str) -> Suite:
        return self.suites[_position(self.suites, name, "suite")]

    def pool(self, name: str) -> Pool:
        return self.pools[_position(self.pools, name, "pool")]


def _position(entries: Sequence[Pool | Platform | Suite], name: str, kind: str) -> int:
    names = [entry.name for entry in entries]
    if name in names:
        return names.index(name)
    raise ConfigError(
        f"there is no {kind} `{name}` in {FILE}{suggestion(name, names)}",
        hint=f"{kind}s of this project: {', '.join(names) or 'none'}",
    )
