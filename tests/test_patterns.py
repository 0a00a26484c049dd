"""One meaning of a path pattern; git's own `:(glob)` is the judge."""

from __future__ import annotations

import subprocess

import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from ci_tasks import patterns

PATHS = (
    "a.go", "cmd/a.go", "cmd/x/a.go", "go.mod", "sub/go.mod", "recipes/x.toml", "recipes/j/jq.toml",
    "recipes/j/k/deep.toml", "recipes/j/jq.toml.bak", "recipes2/x.toml", "xrecipes/x.toml", "recipes/.hidden.toml",
    "recipes/[odd].toml", "recipes/a b.toml", "recipes/é.toml", "recipes/llama.cpp.toml", "recipes/discovery/x.toml",
)  # fmt: skip

PATTERNS = (
    "**/*.go", "go.mod", "recipes/**", "recipes/**/*.toml", "recipes/*.toml", "recipes/?/*.toml", "recipes/*/*.toml",
    "**", "*", "**/go.mod", "recipes/[jk]/*.toml", "recipes/[!j]*.toml", "*/**", "**/*", "recipes/**/jq.toml", "recip*/**",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_git_matches(pattern: str, project: Project) -> None:
    project.commit(dict.fromkeys(PATHS, "x\n"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", f":(glob){pattern}"],
        cwd=project.root, env=dict(project.environ), capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    tracked = set(filter(None, project.git("ls-files", "-z").split("\0")))
    matches = patterns.compiled(pattern).fullmatch
    assert {path for path in tracked if matches(path)} == set(filter(None, listed.split("\0")))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "gcc-libs/v15.2.0-linux-amd64.json",
            {"name": "gcc-libs", "version": "15.2.0", "platform": "linux-amd64"},
        ),
        (
            "x/v1.0-rc.1-2-darwin-arm64.json",
            {"name": "x", "version": "1.0-rc.1-2", "platform": "darwin-arm64"},
        ),
        ("x/v1-linux-debian-amd64.json", {"name": "x", "version": "1", "platform": "linux-debian-amd64"}),
        ("x/v1-linux-alpine-amd64.json", None),
        ("x/y/v1-linux-amd64.json", {"name": "y", "version": "1", "platform": "linux-amd64"}),
    ],
)
def test_a_platform_is_read_from_the_end_of_the_name(path: str, fields: dict[str, str] | None) -> None:
    known = ("linux-amd64", "linux-debian-amd64", "darwin-arm64")
    match = patterns.compiled("**/{name}/v{version}-{platform}.json", known).fullmatch(path)
    assert (match and match.groupdict()) == fields


def test_placeholders_become_stars_for_github() -> None:
    assert patterns.glob("c++/v?/[!a]x[bc].toml") == "c\\+\\+/v*/*x[bc].toml"
    assert patterns.glob("plans/**/{name}/v{version}-{platform}.json") == "plans/**/*/v*-*.json"
    assert patterns.fields("a/{name}/{nope}") == ("name", "nope")


@given(st.text(alphabet=st.characters(exclude_characters="*?[]{}"), min_size=1))
def test_a_path_without_wildcards_matches_itself_alone(path: str) -> None:
    matches = patterns.compiled(path).fullmatch
    assert matches(path)
    assert not matches(path + "x")


def test_the_first_pattern_that_matches_is_named() -> None:
    matcher = patterns.Matcher(("docs/**", "**/*.md"))
    assert matcher.first("docs/a.md") == "docs/**"
    assert matcher.first("a.md") == "**/*.md"
    assert matcher.first("a.py") is None
