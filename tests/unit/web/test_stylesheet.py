"""The stylesheet, as far as it can be judged without a browser: contrast, and what the rules of the pages allow."""

from __future__ import annotations

import re

import pytest

from opskit.core.dag.states import TASK_STATES
from opskit.web import static_files
from opskit.web.formats import state_class

CSS = (static_files.FOLDER / "opskit.css").read_text()
_COLOUR = re.compile(r"(--[\w-]+):\s*(?:light-dark\((#\w+), (#\w+)\)|(#\w+));")
ROOT = {name: (light or one, dark or one) for name, light, dark, one in _COLOUR.findall(CSS.split("\n}\n")[0])}
STATES = {
    found[1]: (found[2], found[3])
    for found in re.finditer(r"^\.(state-\w+) \{ --state: light-dark\((#\w+), (#\w+)\); \}", CSS, re.M)
}
LIGHT, DARK = 0, 1


def channels(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def luminance(rgb: list[float]) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    """As WCAG defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(one: str, other: str, share: float) -> list[float]:
    return [a * share + b * (1 - share) for a, b in zip(channels(one), channels(other), strict=True)]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("state", TASK_STATES)
def test_a_state_can_be_read_in_both_themes(state: str | None, theme: int) -> None:
    colour = STATES[state_class(state)][theme]
    surface, text, sign = (ROOT[name][theme] for name in ("--surface", "--text", "--on-state"))
    assert contrast(channels(colour), channels(surface)) >= 3, "a bar on the page"
    assert contrast(channels(colour), channels(sign)) >= 4.5, "the sign on its colour"
    assert contrast(channels(text), mixed(colour, surface, 0.13)) >= 4.5, "the name in its badge"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("--text", "--bg"),
        ("--text", "--sunken"),
        ("--muted", "--bg"),
        ("--muted", "--surface"),
        ("--muted", "--sunken"),
        ("--muted", "--hover"),
        ("--accent", "--bg"),
        ("--accent", "--surface"),
        ("--accent", "--accent-soft"),
        ("--on-accent", "--accent-solid"),
        ("--on-accent", "--bad-solid"),
        ("--good", "--good-soft"),
        ("--warn", "--warn-soft"),
        ("--bad", "--bad-soft"),
        ("--bad", "--surface"),
        ("--text", "--good-soft"),
        ("--text", "--warn-soft"),
        ("--text", "--bad-soft"),
    ],
)
def test_text_has_the_contrast_that_reading_needs(text: str, ground: str, theme: int) -> None:
    assert contrast(channels(ROOT[text][theme]), channels(ROOT[ground][theme])) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_borders_of_fields_can_be_seen(theme: int) -> None:
    line = channels(ROOT["--line-strong"][theme])
    assert contrast(line, channels(ROOT["--surface"][theme])) >= 3


def test_nothing_is_loaded_from_elsewhere_and_nothing_breaks_the_content_policy() -> None:
    for path in static_files.FOLDER.rglob("*"):
        if path.suffix in (".css", ".js"):
            text = path.read_text()
            assert not re.search(r"@import|https?://(?!www\.w3\.org/)|\beval\(|new Function", text), path
    templates = static_files.FOLDER.parent / "templates"
    for path in templates.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son\w+=[\"']|<style|<script(?![^>]*\ssrc=)|javascript:", text), path
