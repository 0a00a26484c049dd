"""Path patterns of `ci.toml`: one meaning for selection, triggers and the rendered `on: paths`.

`*` and `?` stay inside one folder, `**` is zero or more folders, `[abc]` is a set of characters.
`{name}`, `{version}` and `{platform}` capture parts of the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

FIELDS = ("name", "version", "platform")
"""Placeholders that an `include` pattern may hold, each at most once."""

_TOKEN = re.compile(r"(?<![^/])\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]/]*\]|\{(?P<field>[a-z]+)\}", re.VERBOSE)


def problem(pattern: str) -> str:
    """Say what is wrong with a pattern, or nothing."""
    try:
        compiled(pattern)
    except re.error as error:
        return str(error)
    return ""


def compiled(pattern: str, platforms: Sequence[str] = ()) -> re.Pattern[str]:
    """Return a regular expression for whole paths, with a named group for each placeholder.

    `{platform}` is matched against `platforms`, longest first and from the end of the name (versions
    contain dashes); without any it matches whatever reads like one.
    """
    out: list[str] = []
    position = 0
    for token in _TOKEN.finditer(pattern):
        out.append(re.escape(pattern[position : token.start()]))
        out.append(_expression(token, platforms))
        position = token.end()
    out.append(re.escape(pattern[position:]))
    return re.compile("".join(out), re.DOTALL)


def _expression(token: re.Match[str], platforms: Sequence[str]) -> str:  # noqa: PLR0911  # a table, spelt out
    text = token[0]
    if text == "**/":
        return "(?:.*/)?"
    if text == "/**":
        return "/.+"
    if text == "**" and token.start() == 0 and token.end() == len(token.string):
        return ".+"
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if text.startswith("["):
        return _character_set(text)
    return _field(token, platforms)


def _character_set(text: str) -> str:
    negated = text.startswith("[!")
    body = text[2 if negated else 1 : -1].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return f"(?!/)[{'^' if negated else ''}{body.replace('^', chr(92) + '^')}]"


def _field(token: re.Match[str], platforms: Sequence[str]) -> str:
    field = token["field"]
    if field not in FIELDS:
        return re.escape(token[0])
    if field != "platform":
        return f"(?P<{field}>[^/]+?)"
    known = sorted(platforms, key=len, reverse=True)
    any_platform = r"(?:linux|darwin|macos|windows|freebsd)-[^/.]+?|[^/.-]+-[^/.-]+"
    return f"(?P<platform>{'|'.join(map(re.escape, known)) or any_platform})"


def glob(pattern: str) -> str:
    """Return a pattern that `on: paths` of GitHub understands, and that matches at least as much.

    Placeholders, `?` and negated sets become `*`: GitHub reads `?` and `+` as repetitions.
    """
    pattern = re.sub(r"\{(?:" + "|".join(FIELDS) + r")\}|\?|\[!\]?[^\]]*\]", "*", pattern)
    return pattern.replace("+", "\\+")


def folder(pattern: str) -> str:
    """Return the deepest folder, with a `/` behind it, that everything a pattern matches lies in; or nothing."""
    literal = re.split(r"[*?\[{]", pattern, maxsplit=1)[0]
    return literal[: literal.rfind("/") + 1]


def fields(pattern: str) -> tuple[str, ...]:
    """Return the names of all placeholders in the pattern, known or not, in order."""
    return tuple(token["field"] for token in _TOKEN.finditer(pattern) if token["field"])


class Matcher:
    """Several patterns at once; `first` says which of them matched."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [(pattern, compiled(pattern).fullmatch) for pattern in patterns]

    def first(self, path: str) -> str | None:
        for pattern, fullmatch in self._patterns:
            if fullmatch(path):
                return pattern
        return None
