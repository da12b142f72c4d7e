"""Every fenced block of the documentation is run, or checked as far as possible."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from datetime import datetime
from itertools import count

import pytest
import yaml

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.docs.checks import (
    NOT_RUN,
    check_command,
    check_requirements,
    check_setting,
    check_settings_in,
    check_variable,
    commands,
)
from tests.docs.pages import ROOT, blocks, in_languages
from tests.integration.dags.conftest import example, serialize

SHELL = ("", "bash", "sh", "console", "shell")
_numbers = count(1)


def of(*languages):
    return pytest.mark.parametrize("block", in_languages(*languages), ids=str)


def test_no_block_is_left_out():
    assert {block.language for block in blocks()} <= {*SHELL, "python", *DATA, *NOT_RUN}


def test_the_table_of_blocks_that_are_not_run_has_no_unused_rows():
    programs = {words[0] for block in in_languages(*SHELL) for words in commands(block.text)}
    assert NOT_RUN.keys() <= programs | {block.language for block in blocks()}


@of(*SHELL)
def test_commands(block):
    found = commands(block.text)
    assert found
    for words in found:
        check_command(words)


@of("dockerfile")
def test_images(block):
    check_image(block.text)


def check_image(text):
    for run in re.findall(r"^RUN (pip .*)$", text, re.MULTILINE):
        for words in commands(run.replace("${AIRFLOW_VERSION}", "3.3.2")):
            check_command(words)


def check_json(text, folder):
    value = json.loads(text)
    if "conn_type" in value:
        check_variable("AIRFLOW_CONN_SNIPPET", text)
    elif any("conn_type" in each for each in value.values()):
        from airflow.secrets.local_filesystem import LocalFilesystemBackend

        (folder / "connections.json").write_text(text)
        backend = LocalFilesystemBackend(connections_file_path=str(folder / "connections.json"))
        for conn_id in value:
            check_variable("AIRFLOW_CONN_SNIPPET", backend.get_connection(conn_id).as_json())


def check_yaml(text, folder):
    assert all(yaml.safe_load_all(text))
    check_settings_in(text)


def check_ini(text, folder):
    if not text.startswith("["):
        for words in commands(text):
            check_command(words)
        return
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    for section in parser.sections():
        for option, value in parser[section].items():
            check_setting(section, option, value)


DATA = {
    "json": check_json,
    "yaml": check_yaml,
    "toml": lambda text, folder: tomllib.loads(text),
    "ini": check_ini,
    "requirements": lambda text, folder: check_requirements(text),
}


@of(*DATA)
def test_data(block, tmp_path):
    DATA[block.language](block.text, tmp_path)


def test_files_beside_the_pages():
    for path in (ROOT / "docs").rglob("Dockerfile"):
        check_image(path.read_text())
    for path in (ROOT / "docs").rglob("*.yaml"):
        check_yaml(path.read_text(), path.parent)
        for section, options in yaml.safe_load(path.read_text()).get("config", {}).items():
            for option, value in options.items():
                check_setting(section, option, str(value))


@of("python")
def test_python(block, world, run_dag, monkeypatch, tmp_path, request):
    if "s3://my-bucket" in block.text:
        request.getfixturevalue("my_bucket")
    code = compile(block.text, str(block), "exec")
    if re.search(r"^with DAG\(|^@dag\b", block.text, re.MULTILINE):
        for dag in imported(block, tmp_path):
            run_dag(dag)
        return
    from airflow.sdk import DAG

    with DAG(f"snippet_{next(_numbers)}", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        names = left_out()
        exec(code, names)
    if dag.tasks:
        run_dag(dag)
    for name, value in list(names.items()):
        if name.startswith("test_"):
            names["dag"] = example("sevenbridges_export_two_steps")
            serialize(names["dag"])
            value(monkeypatch)


def left_out():
    """Add what a snippet omits: the imports and the DAG."""
    from airflow_sb_provider.operators import export, task
    from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
    from airflow_sb_provider.sensors.task import SevenBridgesTaskSensor

    operators = [getattr(module, name) for module in (export, task) for name in module.__all__]
    classes = (*operators, SevenBridgesExportSensor, SevenBridgesTaskSensor, SevenBridgesHook)
    return {"__name__": "snippet", **{each.__name__: each for each in classes}}


def imported(block, folder):
    """Return the DAGs of a file with the block, as the DAG processor loads them."""
    from airflow.dag_processing.dagbag import DagBag

    (folder / "snippet.py").write_text(block.text)
    bag = DagBag(str(folder))
    assert not bag.import_errors
    assert bag.dags
    return bag.dags.values()
