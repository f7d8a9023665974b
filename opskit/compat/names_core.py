"""Alias table: exceptions, states, times, configuration and small tools."""

NAMES = """
opskit.compat.dates
    airflow.utils.dates
opskit.compat.exceptions
    airflow.exceptions airflow.sdk.exceptions
opskit.core.dag.exceptions
    airflow.exceptions airflow.sdk.exceptions
opskit.core.dag.exceptions:AirflowException
    airflow.AirflowException airflow.sdk.exceptions.AirflowException
    airflow.providers.common.compat.sdk.AirflowException
"""
