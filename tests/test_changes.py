"""What git says differs, from real repositories; a failure to know is never «nothing changed»."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import RECIPES, Project

from ci_tasks.changes import Changes, Repository, between
from ci_tasks.errors import GitError
from ci_tasks.providers import Base


@pytest.fixture(autouse=True)
def _as_the_project(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "GITHUB_"))]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def changed(project: Project, base: str, head: str = "") -> dict[str, str]:
    found = between(Repository(project.root), Base(revision=base, because="test", given=True), head)
    return {change.path: change.status for change in found.files}


def default(project: Project, head: str = "") -> Changes:
    return between(Repository(project.root), None, head)


def test_every_kind_of_change_is_seen(project: Project) -> None:
    base = project.commit(
        {"kept": "1", "gone": "1", "modified": "1", "moved/x": "a\nb\nc\n", "link": "1", "mode": "1"}
    )
    for name in ("gone", "link"):
        (project.root / name).unlink()
    (project.root / "link").symlink_to("kept")
    (project.root / "mode").chmod(0o755)
    (project.root / "elsewhere").mkdir()
    (project.root / "moved/x").rename(project.root / "elsewhere/x")
    head = project.commit({"modified": "2", "added": "1"})
    assert changed(project, base, head) == {
        "added": "added",
        "elsewhere/x": "added",
        "gone": "deleted",
        "link": "changed its type",
        "mode": "modified",
        "modified": "modified",
        "moved/x": "deleted",
    }


def test_names_of_any_bytes_are_kept(project: Project) -> None:
    base = project.commit()
    names = [
        b"a\xff.txt",
        b":colon",
        b"new\nline",
        b"tab\t",
        b'quote"',
        b"space ",
        b"*",
        b"back\\slash",
        "\u00e9".encode(),
        "e\u0301".encode(),
    ]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(project.root), name))).write_text("x", encoding="utf-8")  # noqa: PTH118
    worktree = changed(project, base)
    head = project.commit()
    assert {os.fsencode(path) for path in changed(project, base, head)} == set(names)
    assert {os.fsencode(path) for path in worktree} == set(names)


def test_only_the_branch_counts_not_what_its_base_did_meanwhile(project: Project) -> None:
    project.commit({"shared": "1"})
    project.git("switch", "--quiet", "--create", "branch")
    head = project.commit({"mine": "1"})
    project.git("switch", "--quiet", "main")
    project.commit({"theirs": "1"})
    assert changed(project, "main", head) == {"mine": "added"}


def test_without_a_head_the_work_tree_counts(project: Project) -> None:
    base = project.commit(
        {"committed": "1", "staged": "1", "edited": "1", "gone": "1", ".gitignore": "ignored\n"}
    )
    project.write({"staged": "2", "untracked": "1", "ignored": "1", "edited": "2"})
    project.git("add", "staged")
    (project.root / "gone").unlink()
    before = project.git("status", "--porcelain")
    index = (project.root / ".git/index").read_bytes()
    assert changed(project, base) == {
        "edited": "modified", "gone": "deleted", "staged": "modified", "untracked": "untracked",
    }  # fmt: skip
    assert (project.root / ".git/index").read_bytes() == index
    assert project.git("status", "--porcelain") == before


def test_contents_are_read_at_the_head_not_from_the_work_tree(project: Project) -> None:
    head = project.commit({"one": "at head", "two": "", "three": "no end"})
    project.write({"one": "in the work tree"})
    repository = Repository(project.root)
    files = repository.files(head)
    assert list(repository.read(["three", "one", "no", "two"], files)) == [b"no end", b"at head", None, b""]
    assert list(repository.read(["one", "absent"], repository.files())) == [b"in the work tree", None]


def test_a_project_in_a_folder_of_the_repository_sees_its_own_files(project: Project) -> None:
    base = project.commit({"sub/project/a": "1", "outside": "1"})
    head = project.commit({"sub/project/a": "2", "outside": "2", "sub/projector/x": "1"})
    inside = Project(root=project.root / "sub/project", environ=project.environ)
    assert changed(inside, base, head) == {"a": "modified"}
    assert set(Repository(inside.root).files(head)) == {"a"}


def test_the_base_is_the_remotes_default_branch(project: Project, tmp_path: Path) -> None:
    project.commit({"a": "1"})
    subprocess.run(
        ["git", "clone", "--quiet", project.root, tmp_path / "clone"], check=True, env=dict(project.environ)
    )
    clone = Project(root=tmp_path / "clone", environ=project.environ)
    clone.commit({"b": "1"})
    found = default(clone, "HEAD")
    assert [change.path for change in found.files] == ["b"]
    assert found.because == "origin/main, the remote's default branch"
    clone.git("remote", "set-head", "origin", "--delete")
    assert default(clone, "HEAD").because == "origin/main, since origin/HEAD is not set"


def test_without_a_remote_the_base_is_the_first_parent(project: Project) -> None:
    project.commit({"a": "1"})
    project.git("switch", "--quiet", "--create", "branch")
    project.commit({"b": "1"})
    project.git("switch", "--quiet", "main")
    project.commit({"c": "1"})
    project.git("merge", "--quiet", "--no-edit", "branch")
    found = default(project, "HEAD")
    assert [change.path for change in found.files] == ["b"]
    assert "first parent" in found.because


def test_a_first_commit_has_nothing_to_compare_with(project: Project) -> None:
    found = default(project, "HEAD")
    assert found.base == ""
    assert "first commit" in found.because


def test_a_base_that_a_force_push_took_away_is_replaced_aloud(project: Project) -> None:
    project.commit({"a": "1"})
    project.git("branch", "stable")
    head = project.commit({"b": "1"})
    found = between(
        Repository(project.root), Base(revision="1" * 40, because="push", fallback="stable"), head
    )
    assert [change.path for change in found.files] == ["b"]
    assert (
        found.because == "stable, since 111111111111 is not in this clone (a force-push, or a first commit?)"
    )


@pytest.mark.parametrize(
    "revision", ["--output=stolen", "-O/etc/passwd", "--help", "nowhere", "HEAD:ci.toml", "a\0b"]
)
def test_a_bad_revision_is_an_error_and_never_an_option(project: Project, revision: str) -> None:
    project.commit({"a": "1"})
    with pytest.raises(GitError, match="revision") as caught:
        changed(project, revision, "HEAD")
    assert caught.value.hint
    assert not (project.root / "stolen").exists()


def test_a_branch_named_like_a_file_is_a_branch(project: Project) -> None:
    project.commit({"c": "1"})
    project.git("branch", "c")
    head = project.commit({"c": "2"})
    assert changed(project, "c", head) == {"c": "modified"}


def test_histories_without_a_common_commit_are_an_error(project: Project) -> None:
    project.git("switch", "--quiet", "--orphan", "other")
    head = project.commit({"x": "1"})
    with pytest.raises(GitError, match="nothing in common"):
        changed(project, "main", head)


def shallow(project: Project, tmp_path: Path) -> Project:
    project.commit({"a": "1"})
    project.git("branch", "old")
    project.commit({"a": "2"})
    source = f"file://{project.root}"
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", source, tmp_path / "clone"],
        check=True,
        env=dict(project.environ),
    )
    clone = Project(root=tmp_path / "clone", environ=project.environ)
    clone.git("fetch", "--quiet", "--depth=1", "origin", "old:refs/remotes/origin/old")
    return clone


def test_a_shallow_clone_without_a_merge_base_is_an_error(project: Project, tmp_path: Path) -> None:
    clone = shallow(project, tmp_path)
    with pytest.raises(GitError, match=r"no merge base between .* this clone is shallow") as caught:
        changed(clone, "origin/old", "HEAD")
    assert "fetch-depth: 0" in caught.value.hint
    with pytest.raises(GitError, match="does not know the revision") as caught:
        changed(clone, "HEAD~1", "HEAD")
    assert "shallow" in caught.value.hint


def test_a_submodule_is_a_change_and_no_file(project: Project, tmp_path: Path) -> None:
    other = Project(root=tmp_path / "other", environ=project.environ)
    other.root.mkdir()
    other.git("init", "--quiet")
    first = other.commit({"x": "1"})
    base = project.commit({"a": "1"})
    project.git("update-index", "--add", "--cacheinfo", f"160000,{first},recipes/sub.toml")
    project.git("commit", "--quiet", "--message", "add")
    assert changed(project, base, "HEAD") == {"recipes/sub.toml": "added"}
    assert "recipes/sub.toml" not in Repository(project.root).files("HEAD")


def test_settings_of_the_repository_change_nothing(project: Project) -> None:
    base = project.commit({"sub/z": "1", "b": "1"})
    project.write({"sub/z": "2", "b": "2"})
    hook = project.root / ".git/hook.sh"
    hook.write_text(f"#!/bin/sh\necho ran >> {project.root}/.git/ran\n", encoding="utf-8")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    for key, value in {
        "diff.external": str(hook), "core.fsmonitor": str(hook), "diff.relative": "true", "diff.noprefix": "true",
        "core.quotePath": "true", "diff.renames": "copies", "diff.mnemonicPrefix": "true",
    }.items():  # fmt: skip
        project.git("config", key, value)
    inside = Project(root=project.root / "sub", environ=project.environ)
    assert changed(project, base) == {"b": "modified", "sub/z": "modified"}
    assert changed(inside, base) == {"z": "modified"}
    assert not (project.root / ".git/ran").exists()


def test_another_users_repository_is_refused_with_gits_remedy(project: Project) -> None:
    project.commit({"ci.toml": RECIPES})
    result = project.invoke("ci.plan", environ={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    assert result.code == 2
    assert "belongs to another user" in result.err
    assert "hint: git config --global --add safe.directory" in result.err


def test_variables_of_a_git_hook_do_not_lead_elsewhere(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": RECIPES})
    project.commit({"recipes/a.toml": "[metadata]\n"})
    elsewhere = {
        "GIT_DIR": str(tmp_path / "no"),
        "GIT_INDEX_FILE": str(tmp_path / "no"),
        "GIT_WORK_TREE": "/",
    }
    result = project.invoke("ci.plan", "--format", "json", environ=elsewhere)
    assert result.code == 0, result.err
    assert [item["name"] for item in result.json()["suites"][0]["items"]] == ["a"]


def stub(project: Project, folder: Path, body: str) -> dict[str, str]:
    """Put an executable called git first on PATH: it is the real one but for what `body` does."""
    real = subprocess.run(
        ["sh", "-c", "command -v git"], check=True, capture_output=True, text=True
    ).stdout.strip()
    folder.mkdir()
    path = folder / "git"
    path.write_text(f'#!/bin/sh\ncase "$*" in *diff*) {body};; esac\nexec {real} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{project.environ['PATH']}"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("printf ':100644 100644 a b M\\0recipes/a.toml\\0'; exit 1", "git diff failed with exit code 1"),
        ("kill -9 $$", "git diff failed with exit code -9"),
        ("printf ':100644 100644 a b M\\0'; exit 0", "a change without its path"),
        ("printf ':100644 100644 a b M\\0recipes/a'; exit 0", "unexpected end of git's output"),
        ("printf 'nonsense\\0recipes/a\\0'; exit 0", "cannot be read"),
    ],
)
def test_a_git_that_fails_half_way_is_an_error(
    project: Project, tmp_path: Path, body: str, message: str
) -> None:
    project.commit({"ci.toml": RECIPES, "recipes/a.toml": "[metadata]\n"})
    result = project.invoke("ci.plan", environ=stub(project, tmp_path / "bin", body))
    assert result.code == 2
    assert message in result.err
    assert "hint: " in result.err
    assert result.out == ""


def test_without_git_the_tasks_are_still_listed(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": RECIPES})
    (tmp_path / "empty").mkdir()
    nothing = {"PATH": str(tmp_path / "empty")}
    assert "ci.run-batch" in project.invoke("--list", environ=nothing).out
    result = project.invoke("ci.plan", environ=nothing)
    assert result.code == 2
    assert "git is not installed" in result.err


def test_a_folder_without_a_repository_is_an_error(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "bare").mkdir()
    outside = Project(root=tmp_path / "bare", environ={**environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    outside.write({"ci.toml": RECIPES, "tasks.py": "from ci_tasks import ns\n"})
    result = outside.invoke("ci.plan")
    assert result.code == 2
    assert "in no git repository" in result.err


def test_repositories_with_long_object_names_work(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "sha256").mkdir()
    long = Project(root=tmp_path / "sha256", environ=environ)
    long.git("init", "--quiet", "--object-format=sha256")
    base = long.commit({"a": "1"})
    head = long.commit({"a": "2"})
    assert len(head) == 64
    assert changed(long, base, head) == {"a": "modified"}


def test_a_worktree_and_a_folder_inside_it_work(project: Project, tmp_path: Path) -> None:
    project.commit({"ci.toml": RECIPES})
    project.commit({"recipes/a.toml": "[metadata]\n", "deep/er/file": "1"})
    project.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    tree = Project(root=tmp_path / "tree", environ=project.environ)
    result = tree.invoke("ci.plan", "--format", "json", folder="deep/er")
    assert result.code == 0, result.err
    assert [item["name"] for item in result.json()["suites"][0]["items"]] == ["a"]
