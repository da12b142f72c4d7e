"""Every example, on a project whose files have names that try to leak the token: no name is rendered."""

from __future__ import annotations

import pytest

from tests.integration.dags.conftest import ROOT, example, xcom
from tests.integration.dags.hostile import HOSTILE, add_hostile_files, assert_token_nowhere

PROJECT = {"project": "demo/hostile"}
EXAMPLES = sorted(path.stem for path in (ROOT / "example_dags").glob("*.py"))
# The parameters besides the defaults, and the key of each file's object.
FORMS = {
    "sevenbridges_bulk_export": (PROJECT | {"name": None}, "bulk/{name}"),
    "sevenbridges_mapped_exports": (PROJECT, "mapped/{name}"),
    "sevenbridges_nightly_export": (PROJECT, "nightly/{name}"),
    "sevenbridges_mapped_two_steps": (PROJECT, "two-steps-each/{file}"),
}
OF_ONE_FILE = ("sevenbridges_export", "sevenbridges_export_two_steps")
OF_AN_APP = ("sevenbridges_run_app",)
WITHOUT_EXPORT = ("sevenbridges_asset_consumer", "sevenbridges_asset_watcher", "sevenbridges_dry_run")


def test_every_example_is_run():
    assert sorted([*FORMS, *OF_ONE_FILE, *OF_AN_APP, *WITHOUT_EXPORT]) == EXAMPLES


@pytest.mark.parametrize("name", FORMS)
def test_hostile_names_of_many_files_are_exported_literally(run, platform, capfd, caplog, name):
    files = add_hostile_files(platform, PROJECT["project"])
    conf, pattern = FORMS[name]
    assert str(run(example(name), run_conf=conf).state) == "success"
    made = {job.location: job.file for job in platform.exports}
    assert made == {pattern.replace("{name}", each).replace("{file}", file): file for each, file in files.items()}
    out, err = capfd.readouterr()
    assert_token_nowhere(platform, out + err + caplog.text)


@pytest.mark.parametrize("location", [HOSTILE[0], HOSTILE[1], HOSTILE[2]])
@pytest.mark.parametrize("name", OF_ONE_FILE)
def test_a_hostile_name_typed_into_the_form_is_exported_literally(run, platform, capfd, caplog, name, location):
    files = add_hostile_files(platform)
    dag_run = run(example(name), run_conf={"file": files[location], "location": location})
    assert str(dag_run.state) == "success"
    assert [job.location for job in platform.exports] == [location]
    result = xcom(dag_run, "export" if name == "sevenbridges_export" else "wait")
    assert result["result"]["metadata"] == platform.platform.files[files[location]].metadata
    out, err = capfd.readouterr()
    assert_token_nowhere(platform, out + err + caplog.text)


@pytest.mark.parametrize("input_name", [HOSTILE[0], HOSTILE[1], HOSTILE[2]])
@pytest.mark.parametrize("name", OF_AN_APP)
def test_outputs_that_are_named_after_a_hostile_input_are_exported_literally(
    run, platform, capfd, caplog, name, input_name
):
    files = add_hostile_files(platform)
    dag_run = run(example(name), run_conf={"file": files[input_name]})
    assert str(dag_run.state) == "success"
    folder = f"runs/{dag_run.run_id}"
    assert {job.location for job in platform.exports} == {f"{folder}/{input_name}{end}" for end in (".gz", ".gz.gzi")}
    out, err = capfd.readouterr()
    assert_token_nowhere(platform, out + err + caplog.text)


@pytest.mark.parametrize("name", WITHOUT_EXPORT)
def test_hostile_names_in_examples_without_an_export(run, platform, capfd, caplog, name):
    files = add_hostile_files(platform)
    conf = {"file": files[HOSTILE[0]], "location": HOSTILE[0]} if name == "sevenbridges_dry_run" else None
    assert str(run(example(name), run_conf=conf).state) == "success"
    out, err = capfd.readouterr()
    assert_token_nowhere(platform, out + err + caplog.text)
