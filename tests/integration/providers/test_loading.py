"""DAG files load without the client libraries of the operators in them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
LIBRARIES = {"requests", "urllib3", "boto3", "botocore", "paramiko", "psycopg", "pymysql", "docker", "kubernetes",
             "googleapiclient", "google", "sqlalchemy", "pandas"}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LIBRARIES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import opskit.providers
for module in pkgutil.walk_packages(opskit.providers.__path__, "opskit.providers."):
    if module.name != "opskit.providers.sql.postgres_cursor":
        importlib.import_module(module.name)
from opskit.providers.amazon.s3_operators import S3ListOperator
from opskit.providers.docker import DockerOperator
from opskit.providers.http import HttpOperator
from opskit.providers.kubernetes.pod import KubernetesPodOperator
from opskit.providers.sql.postgres import PostgresHook
from opskit.providers.ssh import SSHHook, SSHOperator
from opskit.providers.optional import AirflowOptionalProviderFeatureException
tasks = [
    S3ListOperator(task_id="s3", bucket="b"),
    DockerOperator(task_id="docker", image="i", docker_url="tcp://127.0.0.1:1"),
    HttpOperator(task_id="http"),
    KubernetesPodOperator(task_id="pod", image="i", namespace="n", kubernetes_conn_id=None),
    SSHOperator(task_id="ssh", ssh_hook=SSHHook(remote_host="h"), command="true"),
]
PostgresHook(postgres_conn_id="p")
from opskit.core.dag import runtime
runtime.set_store(runtime.MemoryStore())
for task in tasks:
    try:
        task.execute({})
    except AirflowOptionalProviderFeatureException as error:
        print(task.task_id, str(error).rpartition(": ")[2])
"""


def test_a_missing_library_is_told_when_the_task_runs() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "s3 pip install 'opskit[s3]'",
        "docker pip install 'opskit[docker]'",
        "http pip install 'opskit[http]'",
        "pod pip install 'opskit[kubernetes]'",
        "ssh pip install 'opskit[ssh]'",
    ]
