"""Runs Airflow DAG files on opskit and on real Apache Airflow, and compares. Started by scripts/compat/harness."""
