"""/openapi.json, /openapi.yaml and /ui of opskit's own API."""

from __future__ import annotations

from opskit.web.openapi import pages_of

router = pages_of("opskit: operations", "/opskit/v1", "OPSKIT_API")
