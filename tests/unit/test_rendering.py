"""Lists and mappings are rendered as Airflow renders them, also where that is quicker than text by text."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest
from airflow import DAG
from jinja2 import Environment

from airflow_sb_provider._compat import BaseOperator
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

CONTEXT = {"ti": SimpleNamespace(map_index=-1), "ds": "2026-11-27"}
FILE = {"file": "5" * 24, "volume": "demo/results", "location": "a/b.vcf"}


def dag(**fields):
    return DAG("rendering", schedule=None, start_date=datetime(2026, 1, 1), **fields)


class AsAirflow(BaseOperator):
    """An operator that renders as Airflow does."""

    template_fields = ("exports",)

    def __init__(self, *, exports, **fields):
        super().__init__(**fields)
        self.exports = exports


def rendered(operator_class, value, **fields):
    with dag(**fields):
        operator = operator_class(task_id="export", exports=value)
    operator.render_template_fields(CONTEXT)
    return operator.exports


@pytest.mark.parametrize(
    "value",
    [
        [FILE],
        [FILE, {**FILE, "location": "{{ ds }}/b.vcf"}],
        [{**FILE, "location": "a{# no #}/{% if true %}b{% endif %}"}],
        [{**FILE, "location": "a { b } %} c"}],
        [{**FILE, "location": "ends with a line break\n"}, {**FILE, "location": "two\r\nlines"}],
        [{**FILE, "overwrite": True, "properties": {"sse_algorithm": None, "n": 1.5}}],
        [("a tuple", "{{ ds }}"), {"a set"}],
        {"{{ ds }}": ["{{ ds }}", {"deep": ["{{ ds }}"]}]},
        [],
        "{{ ds }}",
    ],
    ids=str,
)
def test_values_become_what_airflow_makes_of_them(value):
    assert rendered(SevenBridgesBulkExportOperator, value) == rendered(AsAirflow, value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"jinja_environment_kwargs": {"variable_start_string": "<<", "variable_end_string": ">>"}}, "<< ds >>"),
        ({"jinja_environment_kwargs": {"line_statement_prefix": "%%"}}, "%% set x = 1"),
        ({"render_template_as_native_obj": True}, "17"),
    ],
    ids=["other marks", "line statements", "native objects"],
)
def test_the_settings_of_the_dag_are_followed(settings, text):
    value = [{**FILE, "location": text}]
    ours = rendered(SevenBridgesBulkExportOperator, value, **settings)
    assert ours == rendered(AsAirflow, value, **settings)
    assert ours != value


def test_a_list_without_templates_is_not_rendered_text_by_text(monkeypatch):
    sent = []
    real = Environment.from_string
    monkeypatch.setattr(Environment, "from_string", lambda *given, **more: sent.append(given) or real(*given, **more))
    assert rendered(SevenBridgesBulkExportOperator, [FILE] * 1000) == [FILE] * 1000
    assert len(sent) < 50
