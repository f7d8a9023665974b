"""The triggers of the core, one module each; `opskit.triggers` is where DAG files import them from."""
