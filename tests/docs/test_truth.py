"""The lists in the documentation match the code."""

from __future__ import annotations

import ast
import inspect
import json
import re

import pytest

from airflow_sb_provider import exceptions
from airflow_sb_provider.api.environments import ENVIRONMENTS
from airflow_sb_provider.api.error_codes import ADVICE
from airflow_sb_provider.get_provider_info import CONN_FIELDS
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import (
    SevenBridgesBulkExportOperator,
    SevenBridgesExportOperator,
    SevenBridgesVerifyExportsOperator,
)
from airflow_sb_provider.retry_policy import SevenBridgesRetryPolicy
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from airflow_sb_provider.triggers.watcher import SevenBridgesExportEventTrigger
from tests.docs.pages import PAGES, ROOT


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def section(name, title):
    return page(name).partition(f"## {title}\n")[2].partition("\n## ")[0]


def words_of_tables(text):
    first_cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return [word for cell in first_cells for word in re.findall(r"`([^`]+)`", cell)]


def test_every_error_code_once_and_those_with_the_same_advice_together():
    cells = re.findall(r"^\| (\d+(?:, \d+)*) \|", page("troubleshooting"), re.MULTILINE)
    rows = [[int(code) for code in cell.split(", ")] for cell in cells]
    assert sorted(code for row in rows for code in row) == sorted(ADVICE)
    for advice in set(ADVICE.values()):
        codes = {code for code, its_advice in ADVICE.items() if its_advice == advice}
        assert [row for row in rows if codes <= set(row)], codes


def test_every_exception():
    classes = [
        name for name, value in vars(exceptions).items() if isinstance(value, type) and issubclass(value, Exception)
    ]
    text = page("troubleshooting")
    assert [name for name in classes if f"`{name}`" not in text] == []


def test_every_extra_of_the_connection():
    extras = words_of_tables(page("connection").partition("| extra |")[2].partition("\n\n")[0])
    assert set(extras) - {"bearer"} == CONN_FIELDS.keys()


def test_the_host_wins_over_the_environment(monkeypatch):
    assert "**If both `host` and `environment` are set, the host wins.**" in page("connection")
    connection = {"conn_type": "sevenbridges", "password": "YOUR_TOKEN", "extra": {"environment": "bdc"}}
    endpoints = {}
    for host in ("", "cgc-api.sbgenomics.com"):
        monkeypatch.setenv("AIRFLOW_CONN_BOTH", json.dumps(connection | {"host": host}))
        endpoints[host] = SevenBridgesHook("both").settings.endpoint
    assert list(endpoints.values()) == [ENVIRONMENTS["bdc"].endpoint, ENVIRONMENTS["cgc"].endpoint]


def test_every_environment():
    listed = re.findall(r"^\| [^|]* \| `([a-z-]+)` \|", page("environments"), re.MULTILINE)
    assert listed == list(ENVIRONMENTS)


@pytest.mark.parametrize(
    ("documented", "text"),
    [
        (SevenBridgesHook.wait_for_exports, section("operators", "Use the hook in your own tasks")),
        (SevenBridgesExportOperator, section("operators", "SevenBridgesExportOperator")),
        (SevenBridgesVerifyExportsOperator, section("operators", "SevenBridgesVerifyExportsOperator")),
        (SevenBridgesExportSensor, section("operators", "SevenBridgesExportSensor")),
        (SevenBridgesExportTrigger, section("operators", "SevenBridgesExportTrigger")),
        (SevenBridgesBulkExportOperator, page("bulk")),
        (SevenBridgesExportEventTrigger, page("watcher")),
        (SevenBridgesRetryPolicy, section("operators", "Choose which errors to retry")),
    ],
)
def test_every_parameter_with_its_default_and_whether_it_is_templated(documented, text):
    rows = rows_of_parameters(text)
    signature = inspect.signature(documented.__init__ if isinstance(documented, type) else documented).parameters
    assert rows.keys() == signature.keys() - {"self", "kwargs"}
    templated = getattr(documented, "template_fields", ())
    for name, (default, *others) in rows.items():
        expected = signature[name].default
        if name == "deferrable":
            assert default == "Airflow's"
        elif expected is inspect.Parameter.empty:
            assert default == "required"
        else:
            assert ast.literal_eval(default.strip("`")) == expected, name
        assert others in ([], ["yes" if name in templated else "no"]), name


def rows_of_parameters(text):
    """By parameter, its default and, where the table says it, whether it is templated."""
    rows = {}
    for table in re.findall(r"^\| parameter \| type \| .*\n(?:\|.*\n)+", text, re.MULTILINE):
        header, _, *lines = table.splitlines()
        is_short = "templated" not in header
        for line in lines:
            name, _, default, templated = [cell.strip() for cell in line.split("|")[1:5]]
            rows[name.strip("`")] = (default,) if is_short else (default, templated)
    return rows


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []
