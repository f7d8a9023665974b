"""The hooks of the core; `opskit.hooks` is where DAG files import them from."""
