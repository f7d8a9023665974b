"""The operators of the core, one module each; `opskit.operators` is where DAG files import them from."""
