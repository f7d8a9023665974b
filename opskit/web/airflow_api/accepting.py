"""Which form of an answer a client wants, where there are two."""

from __future__ import annotations

from collections.abc import Sequence


def best_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """The one of the offered media types that an Accept header likes best; of equals the first. None: it likes none.
    Without a header it is JSON, as in Airflow."""
    if not (accept or "").strip():
        return "application/json"
    liked: dict[str, float] = {}
    for part in (accept or "").split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        liked[name] = _quality(parameters)
    found = [(_liking(liked, one), -place, one) for place, one in enumerate(offered)]
    quality, _, best = max(found)
    return best if quality > 0 else None


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _liking(liked: dict[str, float], offered: str) -> float:
    for name in (offered, f"{offered.partition('/')[0]}/*", "*/*"):
        if name in liked:
            return liked[name]
    return 0.0
