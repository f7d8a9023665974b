"""The small modules of Airflow that have their home in opskit.compat."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.compat import (
    context_tools,
    dates,
    exceptions,
    files,
    kinds,
    modules_by_name,
    other_interfaces,
    secrets,
    small_tools,
    states,
    timezone,
)
from opskit.compat.configuration import AirflowConfigParser
from opskit.core.dag.exceptions import AirflowException


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AirflowConfigParser:
    monkeypatch.setenv("OPSKIT_HOME", str(tmp_path))
    (tmp_path / "opskit.toml").write_text("[core]\nparallelism = 5\n")
    (tmp_path / "airflow.cfg").write_text("[Mine]\nKey = 50%\n[core]\nparallelism = 99\nexecute_tasks_new = x\n")
    return AirflowConfigParser()


def test_conf_asks_the_environment_opskit_an_airflow_cfg_and_airflows_defaults_in_this_order(
    conf: AirflowConfigParser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conf.getint("core", "PARALLELISM") == 5
    assert conf.get("mine", "key") == "50%"
    assert conf.get("core", "DAGS_FOLDER") == f"{tmp_path}/dags"
    assert conf.get("core", "base_log_folder") == conf.get("logging", "BASE_LOG_FOLDER") == f"{tmp_path}/logs"
    assert conf.getboolean("operators", "default_deferrable") is False
    assert conf.get("kubernetes", "NAMESPACE") == "default"
    assert conf.getlist("api", "auth_backends") == ["airflow.api.auth.backend.session"]
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://flows.example")
    assert conf.get("webserver", "base_url") == "https://flows.example"
    assert conf.has_option("core", "executor") and not conf.has_option("core", "nothing")
    assert conf.get("core", "nothing", fallback="else") == "else"
    with pytest.raises(exceptions.AirflowConfigException, match="core/nothing"):
        conf.get("core", "nothing")
    conf.set("core", "parallelism", "3")
    assert conf.getint("core", "parallelism") == 3


def test_a_setting_of_another_kind_is_refused(conf: AirflowConfigParser) -> None:
    with pytest.raises(exceptions.AirflowConfigException, match="no number"):
        conf.getint("mine", "key")
    with pytest.raises(exceptions.AirflowConfigException, match="no boolean"):
        conf.getboolean("mine", "key")


def test_days_ago_is_midnight_utc_and_dates_are_ranged() -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert today - timedelta(days=2) <= dates.days_ago(1) <= today
    assert dates.days_ago(0, hour=3).hour == 3
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert dates.date_range(start, num=3, delta=timedelta(days=2))[-1] == datetime(2024, 1, 5, tzinfo=UTC)
    assert len(dates.date_range(start, datetime(2024, 1, 4, tzinfo=UTC), delta="@daily")) == 4
    assert dates.round_time(datetime(2024, 1, 1, 5, 40, tzinfo=UTC), timedelta(hours=1)).hour == 6


def test_times_are_made_aware_and_naive() -> None:
    aware = timezone.datetime(2024, 1, 1)
    assert timezone.is_localized(aware) and timezone.make_naive(aware) == datetime(2024, 1, 1)
    assert timezone.make_aware(datetime(2024, 1, 1)) == aware
    with pytest.raises(ValueError, match="aware already"):
        timezone.make_aware(aware)
    assert timezone.parse("2024-01-01T00:00:00+02:00") == datetime(2023, 12, 31, 22, tzinfo=UTC)
    assert timezone.td_format(timedelta(days=1, hours=2)) == "1d:2h"


def test_states_compare_and_print_as_their_texts() -> None:
    assert states.State.SUCCESS == "success" and f"{states.DagRunState.FAILED}" == "failed"
    assert "success" in states.State.finished and None in states.State.unfinished
    assert json.dumps(states.TaskInstanceState.UP_FOR_RETRY) == '"up_for_retry"'
    assert kinds.DagRunType.from_run_id("scheduled__2024") is kinds.DagRunType.SCHEDULED
    assert str(kinds.WeightRule.UPSTREAM) == "upstream"


def test_helpers_do_as_airflows() -> None:
    assert small_tools.merge_dicts({"a": {"b": 1}, "c": 1}, {"a": {"d": 2}}) == {"a": {"b": 1, "d": 2}, "c": 1}
    assert list(small_tools.chunks([1, 2, 3], 2)) == [[1, 2], [3]]
    assert small_tools.convert_camel_to_snake("LocalTaskJob") == "local_task_job"
    assert small_tools.prune_dict({"a": None, "b": [None, 1], "c": {"d": None}}) == {"b": [1], "c": {}}
    assert small_tools.exactly_one(0, "x") and not small_tools.at_most_one(1, 2)
    with pytest.raises(AirflowException):
        small_tools.validate_key("no spaces")
    assert modules_by_name.import_string("opskit.compat.dates.days_ago") is dates.days_ago
    assert modules_by_name.qualname(dates.days_ago) == "opskit.compat.dates.days_ago"
    with pytest.raises(ImportError, match="nowhere"):
        modules_by_name.import_string("opskit.compat.dates.nowhere")


def test_a_function_is_given_what_it_takes() -> None:
    def takes(a: int, ds: str = "") -> tuple[int, str]:
        return a, ds

    assert context_tools.make_kwargs_callable(takes)(1, ds="d", ts="t") == (1, "d")
    with pytest.raises(ValueError, match="'a'"):
        context_tools.determine_kwargs(takes, [1], {"a": 2})


def test_files_of_secrets_are_read_in_each_of_their_forms(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"web": "http://u:p@h:1/", "db": {"conn_type": "postgres", "host": "x"}}')
    (tmp_path / "v.env").write_text("# remark\ncolour=red\n")
    backend = secrets.LocalFilesystemBackend(str(tmp_path / "v.env"), str(tmp_path / "c.json"))
    web = backend.get_connection("web")
    assert web is not None and (web.host, web.port, web.login) == ("h", 1, "u")
    assert backend.get_connection("nowhere") is None
    assert backend.get_variable("colour") == "red"
    with pytest.raises(exceptions.AirflowFileParseException, match="missing"):
        secrets.LocalFilesystemBackend(str(tmp_path / "missing.json")).get_variable("x")


def test_a_file_may_lie_in_an_archive(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in.py", "import airflow\ndag = 1\n")
    inside = f"{tmp_path}/a.zip/in.py"
    assert files.correct_maybe_zipped(inside) == f"{tmp_path}/a.zip"
    assert files.open_maybe_zipped(inside).read().startswith("import airflow")
    (tmp_path / "plain.py").write_text("from airflow.models import dag\n")
    (tmp_path / "other.py").write_text("nothing of it\n")
    assert files.list_py_file_paths(tmp_path / "plain.py") == [f"{tmp_path}/plain.py"]
    assert list(files.iter_airflow_imports(f"{tmp_path}/plain.py")) == ["airflow.models"]


def test_xcoms_are_written_and_read_as_json() -> None:
    value = {"at": datetime(2024, 1, 1, tzinfo=UTC), "pair": (1, 2)}
    text = json.dumps(value, cls=other_interfaces.XComEncoder)
    assert json.loads(text, cls=other_interfaces.XComDecoder) == value
