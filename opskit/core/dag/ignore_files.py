"""Ignore files (.opskitignore, .airflowignore): which files below a folder are left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from opskit.errors import OpskitError

IGNORE_FILES = (".opskitignore", ".airflowignore")
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})


class IgnoreRules:
    """The lines of one ignore file. `decide(path)`: True ignored, False taken back by `!`, None not mentioned."""

    def __init__(self, folder: str, lines: list[str], syntax: str, name: str) -> None:
        self._folder = folder
        self._rules: list[tuple[re.Pattern[str], bool, bool]] = []  # pattern, negated, folders only
        self._by_search = syntax == "regexp"
        for number, line in enumerate(lines, 1):
            try:
                rule = _regexp_rule(line) if self._by_search else _glob_rule(line)
            except re.error as error:
                raise OpskitError(
                    f"{name}, line {number}: {line.strip()!r} is no valid pattern: {error}",
                    hint="core.dag_ignore_file_syntax chooses between glob and regexp",
                ) from error
            if rule is not None:
                self._rules.append(rule)

    def decide(self, path: str, is_folder: bool) -> bool | None:
        below = path[len(self._folder) + 1 :] if self._folder else path
        if self._by_search:
            return True if any(pattern.search(below) for pattern, _, _ in self._rules) else None
        decision = None
        for pattern, negated, folders_only in self._rules:
            if (is_folder or not folders_only) and pattern.fullmatch(below):
                decision = not negated
        return decision


def _regexp_rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    text = re.sub(r"\s*#.*", "", line).strip()
    return (re.compile(text), False, False) if text else None


def _glob_rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """A line of gitignore(5)."""
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[1:] if negated else text
    text = text[1:] if text.startswith(("\\#", "\\!")) else text
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    anchored = "/" in text
    text = text.lstrip("/")
    prefix = "" if anchored else "(?:.*/)?"
    return re.compile(prefix + _translate(text)), negated, folders_only


def _translate(glob: str) -> str:
    out = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif glob.startswith("/**", at) and at + 3 == len(glob):
            out.append("/.+")
            at += 3
        elif glob[at] == "*":
            out.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            out.append("[^/]")
            at += 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : end]
            inner = "^" + inner[1:] if inner.startswith(("!", "^")) else inner
            out.append("[" + inner.replace("\\", "\\\\") + "]")
            at = end + 1
        elif glob[at] == "\\" and at + 1 < len(glob):
            out.append(re.escape(glob[at + 1]))
            at += 2
        else:
            out.append(re.escape(glob[at]))
            at += 1
    return "".join(out)


def ignored(rules: list[IgnoreRules], path: str, is_folder: bool) -> bool:
    decision = False
    for rule in rules:
        said = rule.decide(path, is_folder)
        decision = decision if said is None else said
    return decision


def files_below(root: str, syntax: str = "glob", names: Sequence[str] = IGNORE_FILES) -> Iterator[str]:
    """Absolute paths of the files that the ignore files leave, sorted folder by folder; links are followed, folders
    whose name begins with a dot are not entered. OpskitError for a pattern that is none."""
    yield from _below(root, "", [], syntax, names, {os.path.realpath(root)})


def _below(
    root: str, below: str, inherited: list[IgnoreRules], syntax: str, names: Sequence[str], seen: set[str]
) -> Iterator[str]:
    folder = os.path.join(root, below) if below else root
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    rules = list(inherited)
    rules += [
        IgnoreRules(below, Path(entry.path).read_text("utf-8").splitlines(), syntax, entry.path)
        for entry in entries
        if entry.name in names
    ]
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            hidden = entry.name.startswith(".") or entry.name in SKIPPED_FOLDERS
            if not hidden and real not in seen and not ignored(rules, path, True):
                yield from _below(root, path, rules, syntax, names, {*seen, real})
        elif entry.is_file() and entry.name not in names and not ignored(rules, path, False):
            yield entry.path
