"""Whether a module or a name in it can be imported where DAG files run; told without importing it."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path

from opskit.compat import import_hook, nearest, table

_DISTRIBUTIONS = {
    "airflow_client": "apache-airflow-client",
    "bs4": "beautifulsoup4",
    "cosmos": "astronomer-cosmos",
    "cv2": "opencv-python",
    "dagfactory": "dag-factory",
    "dateutil": "python-dateutil",
    "docker": "docker",
    "dotenv": "python-dotenv",
    "git": "GitPython",
    "googleapiclient": "google-api-python-client",
    "great_expectations_provider": "airflow-provider-great-expectations",
    "jwt": "PyJWT",
    "kubernetes": "kubernetes",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "psycopg2": "psycopg2-binary",
    "pymysql": "PyMySQL",
    "MySQLdb": "mysqlclient",
    "sklearn": "scikit-learn",
    "slack_sdk": "slack-sdk",
    "snowflake": "snowflake-connector-python",
    "telegram": "python-telegram-bot",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
"""Package of the registry, where its name is not that of the module."""


def missing_airflow_name(module: str, name: str = "") -> str | None:
    """What to do about `from module import name` (of Airflow) when it can't be had here; None when it can."""
    if import_hook.real_airflow_installed():
        return None
    if module in table.index() or module == "airflow.providers":
        if not name or _has_name(module, name):
            return None
        return nearest.advice(module, name)
    path = _real_module(module)
    if path is None:
        return nearest.advice(module, name)
    if not name or _defines(path, name) or _real_module(f"{module}.{name}") is not None:
        return None
    return f"the installed {nearest.provider_package(module)} has no {name}: another version is needed"


def missing_package(module: str, folders: Sequence[str]) -> str | None:
    """The package to install for `import module`; None when the module is here or below one of the folders."""
    top = module.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in sys.modules:
        return None
    for folder in folders:
        if os.path.exists(os.path.join(folder, top)) or os.path.exists(os.path.join(folder, f"{top}.py")):
            return None
    if PathFinder.find_spec(top) is not None:
        return None
    return _DISTRIBUTIONS.get(top, top)


def _has_name(module: str, name: str) -> bool:
    names = table.index()[module]
    if name in names.attributes or name in names.children or (module == "airflow" and name == "__version__"):
        return True
    if any(name in table.public_names(ours) for ours in names.modules):
        return True
    if any(hasattr(import_module(ours), name) for ours in names.modules):
        return True
    path = _real_module(module)
    return path is not None and _defines(path, name)


def _real_module(module: str) -> str | None:
    """The file of a provider's own module."""
    if not module.startswith("airflow.providers."):
        return None
    below = os.path.join(*module.split("."))
    for entry in sys.path:
        for candidate in (f"{below}.py", os.path.join(below, "__init__.py")):
            path = os.path.join(entry or ".", candidate)
            if os.path.isfile(path):
                return path
        if os.path.isdir(os.path.join(entry or ".", below)):
            return os.path.join(entry or ".", below)
    return None


def _defines(path: str, name: str) -> bool:
    """Whether a file binds the name at its top level, or makes names on demand."""
    if not path.endswith(".py"):
        return False
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError):
        return True
    bound = {"__getattr__", name}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in bound:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any((a.asname or a.name) == name for a in node.names):
            return True
    return False
