"""A fresh home per item, one cache behind them, and nothing outside touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tasks import cache as store_of
from ci_tasks import homes
from ci_tasks.errors import BatchError
from ci_tasks.settings import CACHE_MODES, Cache


def cache(mode: str) -> Cache:
    return Cache(mode=mode, path=PurePosixPath("cache/downloads"), variable="")


@pytest.fixture
def store(tmp_path: Path) -> store_of.Store:
    return store_of.Store(tmp_path / "state" / "cache")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_cache_is_a_real_private_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    store = store_of.Store(tmp_path / "link" / "cache")
    assert store.folder == tmp_path.resolve() / "real" / "cache"
    assert mode_of(store.folder) == 0o700


def test_a_cache_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    with pytest.raises(BatchError, match=r"the download cache .* cannot be used"):
        store_of.Store(tmp_path / "cache")


@pytest.mark.parametrize("mode", CACHE_MODES)
def test_what_one_item_downloads_the_next_one_has(tmp_path: Path, store: store_of.Store, mode: str) -> None:
    first = homes.make(tmp_path / "first", cache(mode), store)
    (first.loan.folder / "sub").mkdir()
    (first.loan.folder / "sub/a.tar").write_bytes(b"x" * 1000)
    use = store_of.settle(first.loan, store, passed=True, alone=True)
    assert (use.added, use.reused) == (1000, 0 if store.sees_reads else None)
    second = homes.make(tmp_path / "second", cache(mode), store)
    assert (second.loan.folder / "sub/a.tar").read_bytes() == b"x" * 1000
    use = store_of.settle(second.loan, store, passed=True, alone=True)
    assert (use.added, use.reused) == (0, 1000 if store.sees_reads else None)
    third = homes.make(tmp_path / "third", cache(mode), store)
    assert store_of.settle(third.loan, store, passed=True, alone=True).reused == (
        0 if store.sees_reads else None
    )
    assert [path.name for path in store.folder.rglob("*.tar")] == ["a.tar"]
    assert not list(store.folder.rglob(".ci-tasks-*"))


@pytest.mark.parametrize("mode", ["copy", "hardlink"])
def test_an_item_that_failed_gives_nothing_to_the_cache(
    tmp_path: Path, store: store_of.Store, mode: str
) -> None:
    home = homes.make(tmp_path / "home", cache(mode), store)
    (home.loan.folder / "half.tar").write_bytes(b"x")
    store_of.settle(home.loan, store, passed=False, alone=True)
    assert list(store.folder.iterdir()) == []


def test_a_copy_cannot_change_an_entry_that_is_there(tmp_path: Path, store: store_of.Store) -> None:
    (store.folder / "a.tar").write_bytes(b"good")
    home = homes.make(tmp_path / "home", cache("copy"), store)
    (home.loan.folder / "a.tar").write_bytes(b"POISONED")
    assert store_of.settle(home.loan, store, passed=True, alone=True).added == 0
    assert (store.folder / "a.tar").read_bytes() == b"good"


def test_an_entry_that_was_changed_through_a_hard_link_is_thrown_away(
    tmp_path: Path, store: store_of.Store
) -> None:
    (store.folder / "a.tar").write_bytes(b"good")
    home = homes.make(tmp_path / "home", cache("hardlink"), store)
    with (home.loan.folder / "a.tar").open("ab") as entry:
        entry.write(b"POISON")
    use = store_of.settle(home.loan, store, passed=True, alone=True)
    assert (use.added, use.spoilt) == (0, 1)
    assert list(store.folder.iterdir()) == []


def test_what_a_killed_batch_has_left_in_the_cache_is_no_entry_and_goes_away(
    tmp_path: Path, store: store_of.Store
) -> None:
    part = store.folder / ".ci-tasks-abc"
    part.write_bytes(b"half")
    assert store.size() == 0
    home = homes.make(tmp_path / "home", cache("copy"), store)
    assert list(home.loan.folder.iterdir()) == []
    os.utime(part, (1, 1))
    store_of.Store(store.folder)
    assert not part.exists()


def test_a_cache_that_an_item_has_locked_or_nested_deeply_is_still_read(
    tmp_path: Path, store: store_of.Store
) -> None:
    (store.folder / "a.tar").write_bytes(b"x")
    script = "import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", script, store.folder], check=True)
    (store.folder / "locked").mkdir(mode=0)
    assert store.size() == 1
    home = homes.make(tmp_path / "home", cache("variable"), store)
    assert store_of.settle(home.loan, store, passed=True, alone=True).added == 0
    assert homes.remove(store.folder) == ""


def test_hard_links_tell_nothing_of_what_one_of_several_items_has_read(
    tmp_path: Path, store: store_of.Store
) -> None:
    (store.folder / "a.tar").write_bytes(b"x")
    home = homes.make(tmp_path / "home", cache("hardlink"), store)
    assert store_of.settle(home.loan, store, passed=True, alone=False).reused is None


def test_a_shared_cache_tells_nothing_of_one_item_when_several_ran(
    tmp_path: Path, store: store_of.Store
) -> None:
    home = homes.make(tmp_path / "home", cache("variable"), store)
    (store.folder / "a").write_bytes(b"x")
    assert store_of.settle(home.loan, store, passed=True, alone=False) == store_of.Use(
        added=None, reused=None
    )


def test_a_home_is_fresh_private_and_has_everything_in_it(tmp_path: Path, store: store_of.Store) -> None:
    home = homes.make(tmp_path / "home", None, store)
    values = homes.environment(home, "TSUKU_HOME")
    assert mode_of(home.folder) == 0o700
    assert values["HOME"] == values["TSUKU_HOME"] == values["CFFIXED_USER_HOME"] == str(tmp_path / "home")
    assert all(Path(value).is_relative_to(home.folder) for value in values.values())
    assert set(values) == {
        "HOME", "CFFIXED_USER_HOME", "TMPDIR", "TSUKU_HOME",
        "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    }  # fmt: skip
    with pytest.raises(FileExistsError):
        homes.make(tmp_path / "home", None, store)


def test_items_get_only_the_variables_on_the_list() -> None:
    environ = {
        "PATH": "/bin", "LC_ALL": "C", "GITHUB_TOKEN": "t", "GITHUB_ENV": "/f", "SSH_AUTH_SOCK": "/s",
        "AWS_SECRET": "s", "PIP_INDEX_URL": "u", "PIPX_HOME": "p", "MINE": "m", "HOME": "/root",
    }  # fmt: skip
    given_ = homes.allowed(environ, ("PIP_*", "MINE?", "ABSENT?"))
    assert given_ == {"PATH": "/bin", "LC_ALL": "C", "PIP_INDEX_URL": "u", "MINE": "m", **homes.QUIET}


def test_variables_that_have_to_be_set_are_named() -> None:
    assert list(homes.unset({"A": "1", "B": ""}, ("A", "B", "C", "D?", "E_*"))) == ["B", "C"]


@given(st.text(max_size=300))
def test_no_name_makes_an_unsafe_folder(name: str) -> None:
    made = homes.slug(name, 7)
    assert made.startswith("0007-")
    assert made.isascii()
    assert len(made) <= 60
    assert "/" not in made
    assert not made.endswith(".")


def test_names_that_differ_only_in_case_get_two_folders() -> None:
    assert homes.slug("Foo", 1).lower() != homes.slug("foo", 2).lower()


def test_a_deep_and_locked_home_is_removed(tmp_path: Path) -> None:
    """A Go module cache is read-only on purpose; the folders nest deeper than one path can say."""
    script = """
import os, sys
os.chdir(sys.argv[1])
os.makedirs('locked/inner'); open('locked/inner/f', 'w').close()
os.chmod('locked/inner', 0o500); os.chmod('locked', 0o000)
os.symlink(sys.argv[2], 'link')
for _ in range(1500):
    os.mkdir('deeper'); os.chdir('deeper')
"""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x", encoding="utf-8")
    (outside / "secret").chmod(0o400)
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-c", script, home, outside], check=True)
    assert homes.remove(home) == ""
    assert not home.exists()
    assert mode_of(outside / "secret") == 0o400


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_locked_home_is_removed_by_somebody_who_is_not_root() -> None:
    script = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from ci_tasks import cache as store_of
from ci_tasks import homes
os.setgid(65534); os.setuid(65534)
home = Path(sys.argv[1]) / 'home'
(home / 'go/mod').mkdir(parents=True)
(home / 'go/mod/f').write_text('x')
(home / 'go/mod/f').chmod(0o444); (home / 'go/mod').chmod(0o555); (home / 'go').chmod(0o555)
print(homes.remove(home), home.exists())
"""
    base = Path("/tmp")  # noqa: S108  # pytest's own folder is closed to others
    place = Path(
        subprocess.run(
            ["mktemp", "-d", base / "ci-tasks-test-XXXXXX"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    place.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", script, place], check=False, capture_output=True, text=True)
    assert done.stdout == " False\n", done.stderr
    place.rmdir()
