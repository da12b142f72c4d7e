from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_sb_provider.get_provider_info import get_provider_info
from airflow_sb_provider.links import base
from airflow_sb_provider.links.export import SevenBridgesDestinationLink, SevenBridgesFileLink
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)


def test_an_address_that_the_process_knows_is_not_read_from_xcom(monkeypatch):
    monkeypatch.setattr(base, "XCom", None)
    operator = SimpleNamespace(known_links={"_link_SevenBridgesFileLink": "https://x"})
    assert SevenBridgesFileLink().get_link(operator, ti_key=TI) == "https://x"


@pytest.mark.parametrize(
    ("value", "shown"), [("https://x", "https://x"), (None, ""), ({"no": "text"}, ""), ("file:///xcoms/1", "")]
)
def test_the_address_comes_from_xcom(monkeypatch, value, shown):
    calls = []

    def get_value(**arguments):
        calls.append(arguments)
        return value

    monkeypatch.setattr(base, "XCom", SimpleNamespace(get_value=get_value))
    assert SevenBridgesDestinationLink().get_link(SimpleNamespace(), ti_key=TI) == shown
    assert calls == [{"key": "_link_SevenBridgesDestinationLink", "ti_key": TI}]


def test_a_link_never_raises(monkeypatch):
    def get_value(**arguments):
        raise RuntimeError("no database")

    monkeypatch.setattr(base, "XCom", SimpleNamespace(get_value=get_value))
    assert SevenBridgesFileLink().get_link(SimpleNamespace(), ti_key=TI) == ""


@pytest.mark.parametrize("operator", [SevenBridgesExportOperator, SevenBridgesBulkExportOperator])
def test_airflow_knows_every_link_of_an_operator(operator):
    """A serialized DAG finds only the classes that the provider lists."""
    listed = get_provider_info()["extra-links"]
    links = operator.operator_extra_links
    assert len({link.name for link in links}) == len(links) == 3
    assert {f"{type(link).__module__}.{type(link).__qualname__}" for link in links} <= set(listed)
