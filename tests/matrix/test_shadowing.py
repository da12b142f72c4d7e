"""No attribute of this package shadows one of Airflow, on any release, except where it is intended."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap

import pytest

import airflow_sb_provider
from airflow_sb_provider._compat import (
    AirflowException,
    BaseEventTrigger,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    BaseTrigger,
    RetryPolicy,
    SharedStreamProducer,
)
from airflow_sb_provider.exceptions import SevenBridgesError
from airflow_sb_provider.failures import airflow_failure
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.plugins.export_tab import AirflowPlugin
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

# Attributes that Airflow expects a subclass to override or set, by class.
INTENDED = [
    (BaseSensorOperator, {"poke", "resume_execution"}),
    (
        BaseOperator,
        {
            "execute",
            "on_kill",
            "operator_extra_links",
            "render_template",
            "start_from_trigger",
            "start_trigger_args",
            "template_fields",
            "template_fields_renderers",
            "ui_color",
        },
    ),
    (BaseTrigger, {"cleanup", "on_kill", "render_template_fields", "run", "serialize"}),
    (BaseEventTrigger, {"create_shared_stream_producer", "filter_shared_stream", "shared_stream_key"}),
    (SharedStreamProducer, {"advance", "open_stream"}),
    (
        BaseHook,
        {
            "conn_name_attr",
            "conn_type",
            "default_conn_name",
            "get_conn",
            "get_connection_form_widgets",
            "get_ui_field_behaviour",
            "hook_name",
            "test_connection",
        },
    ),
    (BaseOperatorLink, {"get_link", "name", "xcom_key"}),
    (AirflowPlugin, {"external_views", "fastapi_apps", "name", "on_load"}),
    *([] if RetryPolicy is object else [(RetryPolicy, {"evaluate"})]),
    # In a class with both, Airflow's attribute comes first.
    (AirflowException, {"serialize"}),
]
# Attributes that Airflow writes to a class or an instance at run time.
WRITTEN_BY_AIRFLOW = {"_BaseOperator__serialized_fields", "_log"}


def is_ours(cls):
    return f"{cls.__module__}.".startswith("airflow_sb_provider.")


def is_airflows(cls):
    return f"{cls.__module__}.".startswith("airflow.")


def find_public_classes():
    """Return every class of this package that inherits from one of Airflow."""
    found = set()
    for module in pkgutil.walk_packages(airflow_sb_provider.__path__, "airflow_sb_provider."):
        if module.name.startswith(("airflow_sb_provider.emulator", "airflow_sb_provider.lineage.openlineage")):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and is_ours(cls) and any(map(is_airflows, cls.__mro__)):
                found.add(cls)
    kinds = [SevenBridgesError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    errors = {
        type(airflow_failure(kind.__new__(kind), final=final)) for kind in kinds if is_ours(kind) for final in (0, 1)
    }
    return sorted(found | {error for error in errors if AirflowException in error.__mro__}, key=repr)


def names(cls):
    """Return the attributes that a class has and declares and that its methods set, without those of `object`."""
    found = {*vars(cls), *vars(cls).get("__annotations__", ())}
    found = {name for name in found if name != "_abc_impl" and not (name.startswith("__") and name.endswith("__"))}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return found
    return found | assigned(tree, "self")


def assigned(tree, *names):
    """Return the attributes that code assigns on variables with these names."""
    stores = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return {node.attr for node in stores if isinstance(node.value, ast.Name) and node.value.id in names}


def set_by_the_triggerer():
    """Return the attributes that Airflow's triggerer sets on a trigger."""
    runner = importlib.import_module("airflow.jobs.triggerer_job_runner")
    return assigned(ast.parse(inspect.getsource(runner)), "trigger", "trigger_instance")


PUBLIC_CLASSES = find_public_classes()


def test_the_comparison_is_not_empty():
    found = {cls.__name__ for cls in PUBLIC_CLASSES}
    assert {"SevenBridgesExportOperator", "SevenBridgesBulkExportOperator", "SevenBridgesExportSensor"} <= found
    assert {
        "SevenBridgesExportTrigger",
        "SevenBridgesHook",
        "SevenBridgesFileLink",
        "SevenBridgesExportPlugin",
    } <= found
    assert {"SevenBridgesRateLimitError", "SevenBridgesInDoubt"} <= found
    assert {"trigger_id", "triggerer_job_id"} <= set_by_the_triggerer()


@pytest.mark.parametrize("public_class", PUBLIC_CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_no_attribute_of_airflow_is_shadowed(public_class):
    airflows = {name for cls in public_class.__mro__ if not is_ours(cls) for name in names(cls)}
    airflows |= set_by_the_triggerer() if issubclass(public_class, BaseTrigger) else set()
    ours = {name for cls in public_class.__mro__ if is_ours(cls) for name in names(cls)}
    intended = {name for base, allowed in INTENDED if issubclass(public_class, base) for name in allowed}
    assert (ours & airflows) - intended - WRITTEN_BY_AIRFLOW == set()


@pytest.mark.parametrize(
    ("make", "base"),
    [
        (
            lambda: SevenBridgesExportOperator(task_id="t", file="f", volume="v", location="l"),
            lambda: BaseOperator(task_id="t"),
        ),
        (lambda: SevenBridgesBulkExportOperator(task_id="t"), lambda: BaseOperator(task_id="t")),
        (
            lambda: SevenBridgesExportSensor(task_id="t", export_id="e", start_from_trigger=True),
            lambda: BaseSensorOperator(task_id="t"),
        ),
    ],
    ids=["export", "bulk", "sensor"],
)
def test_an_instance_sets_no_attribute_that_its_class_inherits_from_airflow(make, base):
    instance, plain = make(), base()
    added = vars(instance).keys() - vars(plain).keys()
    assert {name for name in added if hasattr(plain, name)} <= {"start_from_trigger", "start_trigger_args"}
    # An attribute with its own value comes from a parameter of Airflow.
    for name in vars(plain).keys() - {"start_from_trigger", "start_trigger_args"}:
        assert type(getattr(instance, name)) is type(getattr(plain, name)), name
    parameters = inspect.signature(type(instance).__init__).parameters.keys() - {"self", "kwargs"}
    assert parameters & inspect.signature(type(plain).__init__).parameters.keys() == set()


@pytest.mark.parametrize(
    "task",
    [
        SevenBridgesExportOperator(task_id="t", file="f", volume="v", location="l", validate_only=True),
        SevenBridgesBulkExportOperator(task_id="t", project="a/b", volume="v"),
        SevenBridgesExportSensor(task_id="t", export_id="e"),
    ],
    ids=lambda task: type(task).__name__,
)
def test_airflows_dry_run_renders_and_sends_nothing(task):
    assert task.dry_run() is None
