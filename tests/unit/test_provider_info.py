from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace

import airflow
import jsonschema
import pytest

from airflow_sb_provider import __version__
from airflow_sb_provider.api.environments import ENVIRONMENTS
from airflow_sb_provider.get_provider_info import get_provider_info
from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]


def schema(name):
    return json.loads((Path(airflow.__file__).parent / name).read_text())


def test_airflow_accepts_it():
    jsonschema.validate(INFO, schema("provider_info.schema.json"))
    assert (INFO["package-name"], INFO["versions"]) == ("airflow-sb-provider", [__version__])


def test_airflow_finds_it():
    (found,) = [
        point
        for point in entry_points(group="apache_airflow_provider")
        if point.value.startswith("airflow_sb_provider.")
    ]
    assert found.load()() == INFO


def paths(info):
    """Each dotted path of a class, and each module."""
    for key, value in info.items():
        for entry in value if isinstance(value, list) else []:
            if isinstance(entry, dict):
                yield from entry.get("python-modules", [])
                yield from (path for name, path in entry.items() if name.endswith("class-name"))
            elif key in ("plugins", "notifications", "extra-links"):
                yield entry


@pytest.mark.parametrize("path", sorted(set(paths(INFO))))
def test_every_path_in_it_can_be_imported(path):
    try:
        importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_the_connection_type_is_the_hooks():
    assert CONNECTION["connection-type"] == SevenBridgesHook.conn_type == "sevenbridges"
    assert CONNECTION["hook-name"] == SevenBridgesHook.hook_name
    assert CONNECTION["hook-class-name"].endswith(f".{SevenBridgesHook.__name__}")
    assert SevenBridgesHook.default_conn_name == "sevenbridges_default"
    assert SevenBridgesHook.conn_name_attr in SevenBridgesHook.__init__.__code__.co_varnames


def test_the_labels_are_the_same_for_every_airflow():
    behaviour = SevenBridgesHook.get_ui_field_behaviour()
    jsonschema.validate(behaviour, schema("customized_form_field_behaviours.schema.json"))
    assert {key.replace("_", "-"): value for key, value in behaviour.items()} == CONNECTION["ui-field-behaviour"]


def stand_in(*names):
    """Classes that keep what they were made with, in a module."""
    module = ModuleType("stand_in")
    for name in names:
        setattr(module, name, lambda kind=name, **options: SimpleNamespace(kind=kind, **options))
    return module


def test_the_fields_are_the_same_for_every_airflow(monkeypatch):
    """Older releases make the form with two libraries that newer ones do not bring."""
    monkeypatch.setitem(sys.modules, "flask_appbuilder", ModuleType("flask_appbuilder"))
    monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", stand_in("BS3TextFieldWidget", "Select2Widget"))
    monkeypatch.setitem(sys.modules, "wtforms", stand_in("BooleanField", "SelectField", "StringField"))
    widgets = SevenBridgesHook.get_connection_form_widgets()
    fields = CONNECTION["conn-fields"]
    assert list(widgets) == list(fields)
    for name, field in fields.items():
        widget = widgets[name]
        assert (widget.label, widget.description) == (field["label"], field["description"])
        assert (widget.kind == "BooleanField") == ("boolean" in field["schema"]["type"])
    assert {value for value, _ in widgets["environment"].choices} == {*ENVIRONMENTS, ""}


def test_airflow_takes_no_field_of_the_form_for_a_secret():
    """It would show it as ***, and a switch that is *** as switched on."""
    from airflow._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS

    assert "bearer" in DEFAULT_SENSITIVE_FIELDS
    for name in CONNECTION["conn-fields"]:
        assert not [word for word in DEFAULT_SENSITIVE_FIELDS if word in name]


def test_every_field_of_the_form_is_read_and_has_its_default():
    fields = CONNECTION["conn-fields"]
    assert [name for name in fields["environment"]["schema"]["enum"] if name] == list(ENVIRONMENTS)
    read = {"environment", "allow_http", "oauth", *ConnectionSettings.__dataclass_fields__}
    assert set(fields) == read - {"endpoint", "token", "bearer"}
    defaults = ConnectionSettings("x", "y")
    for name in ("connect_timeout", "read_timeout", "gateway_timeout"):
        assert f"({getattr(defaults, name):.0f} if empty)" in fields[name]["description"]
