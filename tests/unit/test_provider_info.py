from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_sb_provider import __version__
from airflow_sb_provider.api.environments import ENVIRONMENTS
from airflow_sb_provider.get_provider_info import get_provider_info
from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

INFO = get_provider_info()
(CONNECTION,) = INFO["connection-types"]
AIRFLOW = Version(airflow.__version__).release


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
    fields = SevenBridgesHook.get_ui_field_behaviour()
    jsonschema.validate(fields, schema("customized_form_field_behaviours.schema.json"))
    assert {key.replace("_", "-"): value for key, value in fields.items()} == CONNECTION["ui-field-behaviour"]


def stand_in(**names):
    """A module that holds these."""
    module = ModuleType("stand_in")
    vars(module).update(names)
    return module


def maker(kind):
    """A class whose objects keep what they were made with."""
    return lambda **options: SimpleNamespace(kind=kind, **options)


def test_the_fields_are_the_same_for_every_airflow(monkeypatch):
    """Older releases make the form with two libraries that newer ones do not bring, and know no other fields."""
    libraries = {
        "flask_appbuilder": ModuleType("flask_appbuilder"),
        "flask_appbuilder.fieldwidgets": stand_in(BS3TextFieldWidget=maker("widget")),
        "wtforms": stand_in(BooleanField=maker("BooleanField"), StringField=maker("StringField")),
        "wtforms.validators": stand_in(Optional=lambda: "optional", any_of=lambda values: list(values)),
    }
    for name, library in libraries.items():
        monkeypatch.setitem(sys.modules, name, library)
    widgets = SevenBridgesHook.get_connection_form_widgets()
    fields = CONNECTION["conn-fields"]
    assert list(widgets) == list(fields)
    for name, field in fields.items():
        widget = widgets[name]
        assert (widget.label, widget.description) == (field["label"], field["description"])
        assert (widget.kind == "BooleanField") == ("boolean" in field["schema"]["type"])
    assert widgets["environment"].validators == ["optional", list(ENVIRONMENTS)]


def sensitive_fields():
    """Airflow's own list, whose place has changed: 3.1, 3.0, 2."""
    for place in ("_shared", "sdk.execution_time", "utils.log"):
        with suppress(ModuleNotFoundError):
            return importlib.import_module(f"airflow.{place}.secrets_masker").DEFAULT_SENSITIVE_FIELDS
    raise AssertionError("Airflow has no list of sensitive fields")


def test_airflow_takes_no_field_of_the_form_for_a_secret():
    """It would show it as ***, and a switch that is *** as switched on: so with `bearer` in Airflow 3.3."""
    assert "bearer" in sensitive_fields() or AIRFLOW < (3, 3)
    for name in CONNECTION["conn-fields"]:
        assert not [word for word in sensitive_fields() if word in name]


def test_every_field_of_the_form_is_read_and_has_its_default():
    fields = CONNECTION["conn-fields"]
    assert [name for name in fields["environment"]["schema"]["enum"] if name] == list(ENVIRONMENTS)
    read = {"environment", "allow_http", "oauth", *ConnectionSettings.__dataclass_fields__}
    assert set(fields) == read - {"endpoint", "token", "bearer", "ignored_environment"}
    defaults = ConnectionSettings("x", "y")
    for name in ("connect_timeout", "read_timeout", "gateway_timeout"):
        assert f"Default: {getattr(defaults, name):.0f}." in fields[name]["description"]
