"""Reading a TOML table key by key, so that every mistake is collected and none stops the reading."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_DURATION = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?", re.ASCII)
_SHELL_WORDS = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>"})
_ABSENT = object()

MOST = 10**9
"""No number in the file is as large."""


def seconds(text: str) -> float | None:
    """Return the seconds that `1h30m`, `10m` or `2.5s` stand for; `None` when it is no duration."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        return None
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the nearest known word, or nothing when none is near."""
    import difflib  # noqa: PLC0415  # only where something is wrong

    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


class Table:
    """One TOML table; each method reads one key, `close` reports the keys that nobody read."""

    def __init__(self, values: dict[str, Any], path: str, problems: list[str]) -> None:
        self._values = values
        self._path = path
        self._problems = problems
        self._known: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self.at(key)}: {text}")

    def at(self, key: str) -> str:
        """Return the path of a key from the top of the file; of this table itself for an empty one."""
        shown = key if re.fullmatch(r"[\w.\[\]-]*", key, re.ASCII) else f'"{key}"'
        return ".".join(part for part in (self._path, shown) if part)

    def has(self, key: str) -> bool:
        return key in self._values

    def close(self) -> None:
        for key in self._values:
            if key not in self._known:
                self.problem(key, f"unknown key{suggestion(key, self._known)}")

    def _get(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
        """Return the value of a key, or `_ABSENT` when it is missing or of another kind."""
        self._known.add(key)
        value = self._values.get(key, _ABSENT)
        if value is _ABSENT:
            return _ABSENT
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem(key, f"expected {expected}, got {_described(value)}")
            return _ABSENT
        return value

    def text(self, key: str, default: str = "", *, pattern: str = ".+", expected: str = "a string") -> str:
        value = self._get(key, str, expected)
        if value is _ABSENT:
            return default
        if "\0" in value or not re.fullmatch(pattern, value, re.ASCII | re.DOTALL):
            self.problem(key, f"expected {expected}, got {value!r}")
            return default
        return str(value)

    def required(self, key: str, expected: str = "a string") -> str:
        if key not in self._values:
            self._known.add(key)
            self.problem(key, f"is required: {expected}")
        return self.text(key, expected=expected)

    def relative(self, key: str, default: str = "") -> str:
        """Return a path below the project's root, `/` between folders."""
        value = self.text(key, default)
        if value.startswith("/") or ".." in value.split("/"):
            self.problem(key, f"expected a path below the folder of the file, without `..`, got {value!r}")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._get(key, bool, "true or false")
        return default if value is _ABSENT else bool(value)

    def count(self, key: str, default: int, *, least: int = 1) -> int:
        value = self._get(key, int, f"a whole number of at least {least}")
        if value is _ABSENT:
            return default
        if not least <= value < MOST:
            self.problem(key, f"expected a whole number of at least {least}, got {_described(value)}")
            return default
        return int(value)

    def number(self, key: str) -> float | None:
        value = self._get(key, (int, float), "a number that is not negative")
        if value is not _ABSENT and not 0 <= value < MOST:
            self.problem(key, f"expected a number that is not negative, got {value}")
        return None if value is _ABSENT or not 0 <= value < MOST else float(value)

    def choice(self, key: str, options: Sequence[str], default: str) -> str:
        expected = "one of " + ", ".join(f"`{option}`" for option in options)
        value = self._get(key, str, expected)
        if value is _ABSENT:
            return default
        if value not in options:
            self.problem(key, f"expected {expected}, got {value!r}{suggestion(value, options)}")
            return default
        return str(value)

    def duration(self, key: str, default: float, *, least: float = 0) -> float:
        """Return seconds."""
        expected = 'a duration such as "90s", "10m" or "1h30m"'
        value = self._get(key, str, expected)
        if value is _ABSENT:
            return default
        length = seconds(value)
        if not length:
            self.problem(key, f"expected {expected}, longer than nothing, got {value!r}")
            return default
        if length < least:
            self.problem(key, f"expected at least {least:.0f}s, got {value!r}")
        return length

    def texts(
        self,
        key: str,
        default: tuple[str, ...] = (),
        *,
        expected: str = "a list of strings",
        empty: bool = True,
    ) -> tuple[str, ...]:
        """Return a list of strings; one without entries is a mistake unless it may be `empty`."""
        value = self._get(key, list, expected)
        if value is _ABSENT:
            return default
        if not value and not empty:
            self.problem(key, "an empty list means nothing would ever run; leave the key out instead")
        for index, entry in enumerate(value):
            if not isinstance(entry, str) or not entry:
                self.problem(f"{key}[{index}]", f"expected a string, got {_described(entry)}")
        return tuple(entry for entry in value if isinstance(entry, str) and entry)

    def text_or_texts(self, key: str) -> tuple[str, ...]:
        if isinstance(self._values.get(key), str):
            value = self.text(key)
            return (value,) if value else ()
        return self.texts(key, expected="a string or a list of strings")

    def mapping(self, key: str) -> tuple[tuple[str, str], ...]:
        value = self._get(key, dict, "a table of strings")
        if value is _ABSENT:
            return ()
        for name, entry in value.items():
            if not isinstance(entry, str):
                self.problem(f"{key}.{name}", f"expected a string, got {_described(entry)}")
        return tuple((name, entry) for name, entry in value.items() if isinstance(entry, str))

    def command(self, key: str) -> tuple[str, ...]:
        """Return the words of a command: a list as it is, a string split as a shell would split it."""
        self._known.add(key)
        return self._words(key, self._values[key]) if key in self._values else ()

    def commands(self, key: str) -> tuple[tuple[str, ...], ...]:
        value = self._get(key, list, "a list of commands")
        if value is _ABSENT:
            return ()
        return tuple(self._words(f"{key}[{index}]", entry) for index, entry in enumerate(value))

    def _words(self, key: str, value: object) -> tuple[str, ...]:
        if isinstance(value, list) and value and value[0] and all(isinstance(word, str) for word in value):
            return tuple(value)
        if not isinstance(value, str) or not value.strip():
            self.problem(
                key, f"expected a command, as a string or a list of strings, got {_described(value)}"
            )
            return ()
        try:
            words = shlex.split(value)
            unquoted = _unquoted(value)
        except ValueError as error:
            self.problem(key, f"cannot be split into words: {str(error).lower()}")
            return ()
        if not words or not words[0]:
            self.problem(key, f"expected a command, got {value!r}")
        for word in unquoted:
            if word in _SHELL_WORDS:
                self.problem(
                    key,
                    f'no shell reads this, so `{word}` means nothing here; write a script, or ["sh", "-c", …]',
                )
        return tuple(words)

    def table(self, key: str, read: Callable[[Table], T]) -> T | None:
        """Return what `read` makes of a nested table, or `None` when there is none."""
        value = self._get(key, dict, "a table")
        return None if value is _ABSENT else self._nested(key, value, read)

    def named(self, key: str, read: Callable[[str, Table], T]) -> tuple[T, ...]:
        """Return what `read` makes of each entry of a table of tables, in the file's order."""
        value = self._get(key, dict, "a table of tables")
        if value is _ABSENT:
            return ()
        found = []
        for name, entry in value.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name, re.ASCII):
                self.problem(f"{key}.{name}", "expected a name of letters, digits, `_` and `-`, at most 64")
            elif isinstance(entry, dict):
                found.append(self._nested(f"{key}.{name}", entry, lambda table, name=name: read(name, table)))  # type: ignore[misc]
            else:
                self.problem(f"{key}.{name}", f"expected a table, got {_described(entry)}")
        return tuple(found)

    def tables(self, key: str, read: Callable[[Table], T], *, bare: str = "") -> tuple[T, ...]:
        """Return what `read` makes of each table in a list; a bare string counts as `{bare = "..."}`."""
        value = self._get(key, list, "a list")
        if value is _ABSENT:
            return ()
        found = []
        for index, entry in enumerate(value):
            place = f"{key}[{index}]"
            if bare and isinstance(entry, str):
                found.append(self._nested(place, {bare: entry}, read))
            elif isinstance(entry, dict):
                found.append(self._nested(place, entry, read))
            else:
                self.problem(
                    place, f"expected {'a string or ' if bare else ''}a table, got {_described(entry)}"
                )
        return tuple(found)

    def _nested(self, key: str, values: dict[str, Any], read: Callable[[Table], T]) -> T:
        table = Table(values, self.at(key), self._problems)
        result = read(table)
        table.close()
        return result


def _unquoted(text: str) -> list[str]:
    """Return the words of a command with their quotes; none where an escape makes that impossible."""
    try:
        return shlex.split(text, posix=False)
    except ValueError:
        return []


def _described(value: object) -> str:
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    try:
        shown = repr(value)
    except ValueError:  # a number of more digits than Python writes
        shown = "very long"
    return (
        f"{kinds.get(type(value), type(value).__name__)} ({shown if len(shown) <= 40 else shown[:37] + '…'})"  # noqa: PLR2004
    )
