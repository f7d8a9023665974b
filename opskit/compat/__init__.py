"""Airflow's names for what opskit has: the alias table (`table`, `names_*`) and the import hook that reads it. Loaded
only in processes that load DAG files, and only when one of these asks for a name of Airflow."""
