"""Hooks for DAG files: `from opskit.hooks import BaseHook`."""

from __future__ import annotations

from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.hooks.filesystem import FSHook
from opskit.core.dag.hooks.package_index import PackageIndexHook
from opskit.core.dag.hooks.subprocess import SubprocessHook, SubprocessResult

__all__ = ["BaseHook", "FSHook", "PackageIndexHook", "SubprocessHook", "SubprocessResult"]
