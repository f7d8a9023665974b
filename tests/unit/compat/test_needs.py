"""What the text of a DAG file asks for, found without running it."""

from __future__ import annotations

import textwrap

from opskit.compat import needs, presence


def _of(text: str) -> list[tuple[int, str, str, bool, bool]]:
    return [
        (need.line, need.kind, f"{need.module}:{need.name}", need.at_load, need.optional)
        for need in needs.of_source(textwrap.dedent(text).lstrip())
    ]


def test_all_imports_are_found_with_when_and_whether_they_are_needed() -> None:
    assert _of(
        """
        import pandas as pd
        from airflow.sdk import DAG, task
        try:
            import optional_thing
        except ImportError:
            optional_thing = None
        if TYPE_CHECKING:
            import only_for_checkers
        def f():
            import inside
        @dag
        def g():
            from at import load
        """
    ) == [
        (1, "import", "pandas:", True, False),
        (2, "import", "airflow.sdk:DAG", True, False),
        (2, "import", "airflow.sdk:task", True, False),
        (4, "import", "optional_thing:", True, True),
        (10, "import", "inside:", False, False),
        (13, "import", "at:load", True, False),
    ]


def test_variables_and_connections_are_found_in_calls_arguments_and_templates() -> None:
    assert _of(
        """
        a = Variable.get("needed")
        b = Variable.get("with_default", default_var=1)
        c = BaseHook.get_connection("at_load")
        BashOperator(bash_command="echo {{ var.value.color }} {{ var.json.get('x') }} {{ conn.web.host }}")
        PostgresOperator(postgres_conn_id="db", sql="select 1")
        HttpOperator(http_conn_id="{{ params.conn }}")
        Connection(conn_id="made_here")
        """
    ) == [
        (1, "variable", "needed:", True, False),
        (2, "variable", "with_default:", True, True),
        (3, "connection", "at_load:", True, False),
        (4, "connection", "web:", False, False),
        (4, "variable", "color:", False, False),
        (5, "connection", "db:", False, False),
    ]


def test_a_name_of_airflow_that_can_not_be_had_comes_with_what_to_do() -> None:
    assert presence.missing_airflow_name("airflow.operators.bash", "BashOperator") is None
    assert presence.missing_airflow_name("airflow", "__version__") is None
    assert presence.missing_airflow_name("airflow", "models") is None
    assert "BashOperator" in str(presence.missing_airflow_name("airflow.operators.bash", "BashOperater"))
    told = presence.missing_airflow_name("airflow.providers.yandex.hooks.yandex", "YandexCloudBaseHook")
    assert "apache-airflow-providers-yandex" in str(told)


def test_a_package_that_is_not_installed_is_named_as_the_registry_names_it(tmp_path: object) -> None:
    assert presence.missing_package("json", []) is None
    assert presence.missing_package("opskit.errors", []) is None
    assert presence.missing_package("cosmos.operators", []) == "astronomer-cosmos"
    assert presence.missing_package("there_is_no_such_thing", []) == "there_is_no_such_thing"
