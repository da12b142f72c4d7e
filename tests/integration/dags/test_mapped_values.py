"""File names in mapped and other fields of a task: no text from an XCom is rendered."""

from __future__ import annotations

from datetime import datetime

import pytest
from airflow.sdk import DAG, TaskGroup, task, task_group

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.dags.hostile import HOSTILE, add_hostile_files, assert_token_nowhere

COMMON = {"volume": "demo/results", "copy_only": True, "poll_interval": 0.1, "retries": 0}


def dag_of(dag_id, **options):
    return DAG(dag_id, start_date=datetime(2026, 1, 1), schedule=None, **options)


@task
def choose():
    files = SevenBridgesHook().list_files(project="demo/hostile")
    return [{"file": file.id, "location": f"by-name/{file.name}"} for file in files]


@task(multiple_outputs=True)
def choose_one(number):
    file = SevenBridgesHook().list_files(project="demo/hostile")[number]
    return {"file": file.id, "location": f"by-name/{file.name}"}


def mapped(**fields):
    return SevenBridgesExportOperator.partial(task_id="export", **COMMON, **fields)


def bulk(**fields):
    return SevenBridgesBulkExportOperator.partial(task_id="export", poll_interval=0.1, **fields)


def expand_kwargs():
    mapped().expand_kwargs(choose())


def expand_kwargs_of_a_map():
    mapped().expand_kwargs(choose().map(lambda export: {**export, "overwrite": "false"}))


def expand_kwargs_of_a_zip():
    exports = choose()
    zipped = exports.map(lambda export: export["file"]).zip(exports.map(lambda export: export["location"]))
    mapped().expand_kwargs(zipped.map(lambda pair: {"file": pair[0], "location": pair[1]}))


def expand_kwargs_of_a_mapped_task():
    mapped().expand_kwargs(choose_one.expand(number=list(range(len(HOSTILE)))))


def expand_kwargs_of_several_tasks():
    mapped().expand_kwargs([choose_one.override(task_id=f"choose_{number}")(number) for number in range(len(HOSTILE))])


def expand_a_list_of_exports():
    with_volume = choose().map(lambda export: [{**export, "volume": "demo/results", "copy_only": True}])
    bulk().expand(exports=with_volume)


def expand_kwargs_with_a_list_of_exports():
    with_volume = choose().map(lambda export: {"exports": [{**export, "volume": "demo/results", "copy_only": True}]})
    bulk().expand_kwargs(with_volume)


def expand_ids_with_a_location_pattern():
    bulk(volume="demo/results", copy_only=True, location_pattern="by-name/{name}").expand(
        file_ids=choose().map(lambda export: export["file"])
    )


def a_mapped_task_group():
    @task
    def part(export, name):
        return export[name]

    @task_group
    def each(export):
        file, location = part(export, "file"), part(export, "location")
        SevenBridgesExportOperator(task_id="export", file=file, location=location, **COMMON)

    each.expand(export=choose())


def a_task_group_mapped_over_lists_of_exports():
    @task_group
    def each(exports):
        SevenBridgesBulkExportOperator(task_id="export", exports=exports, poll_interval=0.1)

    each.expand(exports=choose().map(lambda export: [{**export, "volume": "demo/results", "copy_only": True}]))


def outputs_as_fields():
    for number in range(len(HOSTILE)):
        chosen = choose_one.override(task_id=f"choose_{number}")(number)
        SevenBridgesExportOperator(
            task_id=f"export_{number}", file=chosen["file"], location=chosen["location"], **COMMON
        )


def pulled_by_a_template():
    for number in range(len(HOSTILE)):
        task_id = f"choose_{number}"
        chosen = choose_one.override(task_id=task_id)(number)
        export = SevenBridgesExportOperator(
            task_id=f"export_{number}",
            file="{{ ti.xcom_pull('" + task_id + "')['file'] }}",
            location="{{ ti.xcom_pull('" + task_id + "')['location'] }}",
            **COMMON,
        )
        chosen >> export


def a_list_of_exports():
    @task
    def with_volume(exports):
        return [{**export, "volume": "demo/results", "copy_only": True} for export in exports]

    SevenBridgesBulkExportOperator(task_id="export", exports=with_volume(choose()), poll_interval=0.1)


def a_list_of_exports_pulled_by_a_template():
    @task
    def with_volume(exports):
        return [{**export, "volume": "demo/results", "copy_only": True} for export in exports]

    bulk = SevenBridgesBulkExportOperator(
        task_id="export", exports="{{ ti.xcom_pull('with_volume') }}", poll_interval=0.1
    )
    with_volume(choose()) >> bulk


def a_list_with_outputs_in_it():
    chosen = [choose_one.override(task_id=f"choose_{number}")(number) for number in range(len(HOSTILE))]
    exports = [
        {"file": each["file"], "location": each["location"], "volume": "demo/results", "copy_only": True}
        for each in chosen
    ]
    SevenBridgesBulkExportOperator(task_id="export", exports=exports, poll_interval=0.1)


WAYS = (
    expand_kwargs,
    expand_kwargs_of_a_map,
    expand_kwargs_of_a_zip,
    expand_kwargs_of_a_mapped_task,
    expand_kwargs_of_several_tasks,
    expand_a_list_of_exports,
    expand_kwargs_with_a_list_of_exports,
    expand_ids_with_a_location_pattern,
    a_mapped_task_group,
    a_task_group_mapped_over_lists_of_exports,
    outputs_as_fields,
    pulled_by_a_template,
    a_list_of_exports,
    a_list_of_exports_pulled_by_a_template,
    a_list_with_outputs_in_it,
)


@pytest.mark.parametrize(
    ("way", "native"),
    [*((way, False) for way in WAYS), (expand_kwargs, True), (pulled_by_a_template, True)],
    ids=lambda value: getattr(value, "__name__", (value and "native") or "text"),
)
def test_a_key_is_the_literal_name(run, platform, capfd, caplog, way, native):
    files = add_hostile_files(platform, "demo/hostile")
    with dag_of("hostile", render_template_as_native_obj=native) as dag:
        way()
    assert str(run(dag).state) == "success"
    assert {job.location: job.file for job in platform.exports} == {
        f"by-name/{name}": file for name, file in files.items()
    }
    out, err = capfd.readouterr()
    assert_token_nowhere(platform, out + err + caplog.text)


def test_the_name_of_a_mapped_task_is_the_literal_name_of_its_file(run, platform):
    files = add_hostile_files(platform, "demo/hostile")
    with dag_of("named") as dag:
        mapped(map_index_template="{{ task.location }}").expand_kwargs(choose())
    shown = [ti.rendered_map_index for ti in run(dag).get_task_instances() if ti.task_id == "export"]
    assert sorted(shown) == sorted(f"by-name/{name}" for name in files)


WRITTEN, RENDERED = "{{ dag.dag_id }}/{{ 7*191 }}", "written/1337"


def give(value):
    """Return the output of a task; as an argument of the task, the value would be the author's template."""

    @task
    def given():
        return value

    return given()


def in_a_field(file):
    SevenBridgesExportOperator(task_id="export", file=file, location=WRITTEN, **COMMON)


def in_partial_beside_expand(file):
    mapped(location=WRITTEN).expand(file=give([file]))


def in_partial_beside_expand_kwargs(file):
    mapped(location=WRITTEN).expand_kwargs(give([{"file": file}]))


def in_default_args_of_the_dag(file):
    mapped().expand_kwargs(give([{"file": file}]))


def in_default_args_of_a_group(file):
    with TaskGroup("group", default_args={"location": WRITTEN}):
        mapped().expand_kwargs(give([{"file": file}]))


def in_a_list_for_expand(file):
    mapped().expand(file=give([file]), location=[WRITTEN])


def in_a_list_for_expand_kwargs(file):
    mapped(file=file).expand_kwargs([{"location": WRITTEN}])


def in_lists_of_exports_for_expand(file):
    bulk().expand(exports=[[{"file": file, "volume": "demo/results", "location": WRITTEN}]])


def in_lists_of_exports_for_expand_kwargs(file):
    bulk().expand_kwargs([{"exports": [{"file": file, "volume": "demo/results", "location": WRITTEN}]}])


PLACES = (
    in_a_field,
    in_partial_beside_expand,
    in_partial_beside_expand_kwargs,
    in_default_args_of_the_dag,
    in_default_args_of_a_group,
    in_a_list_for_expand,
    in_a_list_for_expand_kwargs,
    in_lists_of_exports_for_expand,
    in_lists_of_exports_for_expand_kwargs,
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_templates_of_the_author_are_rendered(run, platform, place):
    defaults = {"location": WRITTEN} if place is in_default_args_of_the_dag else {}
    with dag_of("written", default_args=defaults) as dag:
        place(platform.add_file("a.txt", b"x").id)
    assert str(run(dag).state) == "success"
    assert [job.location for job in platform.exports] == [RENDERED]


def test_an_xcom_value_overrides_default_args_and_stays_literal(run, platform):
    file = platform.add_file("a.txt", b"x").id
    with dag_of("wins", default_args={"location": WRITTEN}) as dag:
        mapped().expand_kwargs(give([{"file": file, "location": HOSTILE[0]}]))
    assert str(run(dag).state) == "success"
    assert [job.location for job in platform.exports] == [HOSTILE[0]]


@pytest.mark.parametrize("mapping", ["expand", "expand_kwargs"])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_export_id_from_a_mapped_value_stays_literal(run, platform, capfd, caplog, mapping, name):
    with dag_of("waits") as dag:
        wait = SevenBridgesExportSensor.partial(task_id="wait", poke_interval=0.1, timeout=300)
        if mapping == "expand":
            wait.expand(export_id=give([name]))
        else:
            wait.expand_kwargs(give([{"export_id": name}]))
    assert str(run(dag).state) == "failed"
    out, err = capfd.readouterr()
    assert f"{name!r} is not a valid export id" in out
    assert_token_nowhere(platform, out + err + caplog.text)
