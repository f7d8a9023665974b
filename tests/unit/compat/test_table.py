"""The alias table: every row leads somewhere, and none contradicts another."""

from __future__ import annotations

from collections import Counter
from importlib import import_module

import pytest

from opskit.compat import import_hook, nearest, table


def test_every_row_leads_to_something() -> None:
    broken = []
    for target, paths in table.rows():
        assert paths, target
        try:
            if ":" in target:
                import_hook.resolve(target)
            else:
                assert table.public_names(target), target
        except (ImportError, AttributeError) as error:
            broken.append(f"{target}: {error}")
    assert not broken, "\n".join(broken)


def test_no_path_leads_to_two_things() -> None:
    single = Counter(path for target, paths in table.rows() if ":" in target for path in paths)
    assert [path for path, times in single.items() if times > 1] == []
    for module, names in table.index().items():
        offered = Counter(name for ours in names.modules for name in table.public_names(ours))
        twice = [name for name, times in offered.items() if times > 1 and name not in names.attributes]
        assert not twice, f"{module}: {twice}"


def test_rows_are_sorted_by_our_names() -> None:
    for part in table._PARTS:
        targets = [target for target, _ in table.parse(import_module(f"opskit.compat.{part}").NAMES)]
        assert targets == sorted(set(targets)), part


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("airflow.providers.snowflake.hooks.snowflake", "apache-airflow-providers-snowflake"),
        ("airflow.providers.apache.kafka.hooks.base", "apache-airflow-providers-apache-kafka"),
        ("airflow.providers.google.cloud.hooks.gcs", "apache-airflow-providers-google"),
        ("airflow.utils.dates", None),
    ],
)
def test_the_package_of_a_provider_is_told_from_its_module(module: str, package: str | None) -> None:
    assert nearest.provider_package(module) == package


def test_the_same_name_elsewhere_is_nearer_than_a_similar_one() -> None:
    assert str(nearest.nearest("airflow.operators.bash", "EmptyOperator")).endswith(".EmptyOperator")
    assert nearest.nearest("airflow.models", "Variabel") == "airflow.models.Variable"
