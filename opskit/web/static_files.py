"""The files under static/: their URLs hold a hash of all of them, so a browser asks for each only once per version."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"
_YEAR = "public, max-age=31536000, immutable"


@cache
def fingerprint() -> str:
    """Of the names and contents of all files. One for all: modules import each other by relative paths."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(FOLDER)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def static_url(name: str) -> str:
    """The path that a page names: `/static/~0123456789ab/opskit.css`."""
    return f"/static/~{fingerprint()}/{name}"


class HashedFiles(StaticFiles):
    """Serves `~<hash>/name` and `name`. Only what has the current hash may be kept by browsers."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        first, _, rest = path.partition("/")
        hashed = first.startswith("~") and bool(rest)
        answer = await super().get_response(rest if hashed else path, scope)
        answer.headers["Cache-Control"] = _YEAR if hashed and first[1:] == fingerprint() else "no-cache"
        return answer
