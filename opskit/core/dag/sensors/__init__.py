"""The sensors of the core, one module each; `opskit.sensors` is where DAG files import them from."""
