"""BashOperator: environment, folder, exit codes, the last line."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator

with DAG("bash_edges", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    BashOperator(task_id="env", bash_command="echo $A-${HOME:-unset}", env={"A": "{{ ds }}"})
    BashOperator(task_id="append_env", bash_command="echo $A-${PATH:+set}", env={"A": "a"}, append_env=True)
    BashOperator(task_id="cwd", bash_command="pwd", cwd="/usr")
    BashOperator(task_id="no_cwd", bash_command="pwd", cwd="/no/such/folder")
    BashOperator(task_id="last_line", bash_command="echo one; echo two; echo; echo three")
    BashOperator(task_id="trailing", bash_command="echo 'spaces   '; printf 'no newline'")
    BashOperator(task_id="stderr", bash_command="echo out; echo err >&2")
    BashOperator(task_id="silent", bash_command="true")
    BashOperator(task_id="no_push", bash_command="echo x", do_xcom_push=False)
    BashOperator(task_id="skips", bash_command="exit 99") >> EmptyOperator(task_id="after_skip")
    BashOperator(task_id="skips_too", bash_command="exit 42", skip_on_exit_code=[41, 42])
    BashOperator(task_id="no_skip", bash_command="exit 99", skip_on_exit_code=None)
    BashOperator(task_id="pipe", bash_command="false | true")
    BashOperator(task_id="set_e", bash_command="set -e\nfalse\necho never")
    BashOperator(task_id="unicode", bash_command="echo 'grüße ✓'")
    BashOperator(
        task_id="context", bash_command="echo $AIRFLOW_CTX_DAG_ID $AIRFLOW_CTX_TASK_ID $AIRFLOW_CTX_TRY_NUMBER"
    )
    BashOperator(task_id="processor", bash_command="echo '{\"a\": 1}'", output_processor=lambda text: text.upper())
