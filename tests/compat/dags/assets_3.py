"""Assets of Airflow 3: outlets, schedules, @asset, aliases."""

from datetime import datetime

from airflow.sdk import DAG, Asset, AssetAlias, AssetAll, AssetAny, Metadata, asset, task

ONE, TWO = Asset("one"), Asset(name="two", uri="s3://bucket/two", extra={"a": 1})
START = datetime(2024, 1, 1)


@asset(schedule="@daily")
def made():
    return [1, 2]


@asset(schedule=made, uri="s3://bucket/after")
def made_after(context, made):
    return made.name


@asset.multi(schedule=None, outlets=[Asset("left"), Asset("right")])
def two_at_once():
    return "both"


with DAG("assets_producer", schedule=None, start_date=START):

    @task(outlets=[ONE])
    def write(*, outlet_events):
        outlet_events[ONE].extra = {"rows": 3}
        return "written"

    @task(outlets=[TWO])
    def by_metadata():
        yield Metadata(TWO, extra={"rows": 4})

    @task(outlets=[AssetAlias("alias")])
    def by_alias(*, outlet_events):
        outlet_events[AssetAlias("alias")].add(Asset("three"))

    write() >> by_metadata() >> by_alias()

with DAG("assets_all", schedule=AssetAll(ONE, TWO), start_date=START):

    @task
    def events(triggering_asset_events):
        return len(triggering_asset_events)

    events()

with DAG("assets_any", schedule=AssetAny(ONE, TWO), start_date=START):

    @task
    def nothing():
        return None

    nothing()
