"""Every path in examples and documentation from a task's result to a field that Airflow may render.

Names, metadata and error texts are written by other people, and Airflow renders mapped values in some places. Each path
is listed here with the reason why it cannot render such a text.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT, in_languages

ID = "an id of the Platform, which is no text that a person chooses"
WHOLE = "an output as a whole argument: Airflow resolves it and renders nothing of it"
ONCE = "the result of a template, which Airflow does not render again, and an id besides"
OURS = "our operators take mapped values of an XCom literally: tests/integration/dags/test_mapped_values.py"
KNOWN = {
    "docs/bulk.md": {
        "expand(file_ids=choose())": ID,
        "expand_kwargs(choose_with_keys())": OURS,
    },
    "docs/operators.md": {
        "SevenBridgesExportSensor(export_id={{ ti.xcom_pull('start', key='export_id') }})": ONCE,
        "SevenBridgesExportSensor(export_id={{ ti.xcom_pull('each.start', key='export_id', "
        "map_indexes=ti.map_index) }})": ONCE,
        "SevenBridgesExportOperator(location=location_of(file))": WHOLE,
        "SevenBridgesExportSensor(export_id=starts.output['export_id'])": ID,
        "report(fetch())": WHOLE,
        "wait(submit(['567890abc9b0307bc0414164', '567890abc1e5339df0414123']))": ID,
    },
    "docs/tasks.md": {
        "SevenBridgesBulkExportOperator(file_ids={{ ti.xcom_pull('run_app')['file_ids'] }})": ONCE,
        "SevenBridgesTaskSensor(sevenbridges_task_id={{ ti.xcom_pull('start', key='task_id') }})": ONCE,
    },
    "example_dags/sevenbridges_run_app.py": {
        "SevenBridgesBulkExportOperator(file_ids={{ ti.xcom_pull('run_app')['file_ids'] }})": ONCE,
    },
    "example_dags/sevenbridges_export.py": {
        "SevenBridgesExportOperator(properties=properties())": "chosen in the form from a list; " + WHOLE,
        "read_object(export.output)": WHOLE,
    },
    "example_dags/sevenbridges_export_two_steps.py": {
        "SevenBridgesExportSensor(export_id={{ ti.xcom_pull(task_ids='start', key='export_id') }})": ONCE,
    },
    "example_dags/sevenbridges_mapped_exports.py": {
        "expand(file_ids=choose())": ID,
        "partial(map_index_template={{ task.file_ids }})": ONCE,
        "add_up(exports.output)": WHOLE,
    },
    "example_dags/sevenbridges_mapped_two_steps.py": {
        "expand(file=choose())": ID,
        "SevenBridgesExportOperator(location=location_of(file))": WHOLE,
        "SevenBridgesExportSensor(export_id={{ ti.xcom_pull(task_ids='each.start', key='export_id', "
        "map_indexes=ti.map_index) }})": ONCE,
    },
}
DATE = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
# Values that a template may use without an XCom: those of the form and of Airflow. A run may have no `ds`.
PLAIN = re.compile(rf"\{{\{{ (params\.\w+|run_id) \}}\}}|{re.escape(DATE)}")


def sources():
    for path in sorted((ROOT / "example_dags").glob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()
    for block in in_languages("python"):
        yield block.page, block.text


def flows(text):
    """Return the calls in a source that pass on the result of another task, as text."""
    tree = ast.parse(text)
    tasks = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("task" in ast.unparse(each) for each in node.decorator_list)
    }
    groups = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("group" in ast.unparse(each) for each in node.decorator_list)
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = ast.unparse(call.func).rpartition(".")[2]
        if name.startswith("Param") or not (
            name.endswith(("Operator", "Sensor")) or name in {"partial", "expand", "expand_kwargs"} | tasks | groups
        ):
            continue
        for keyword, value in [
            *((None, each) for each in call.args),
            *((each.arg, each.value) for each in call.keywords),
        ]:
            if comes_from_a_task(value, tasks):
                shown = value.value if isinstance(value, ast.Constant) else ast.unparse(value)
                yield f"{name}({f'{keyword}=' if keyword else ''}{shown})"


def comes_from_a_task(value, tasks):
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and re.search(r"\{[{%]", PLAIN.sub("", str(node.value))):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "output":
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in tasks:
            return True
    return False


def test_every_path_into_rendered_text_is_known():
    found: dict[str, set[str]] = {}
    for page, text in sources():
        for flow in flows(text):
            found.setdefault(page, set()).add(flow)
    assert found == {page: set(known) for page, known in KNOWN.items()}


@pytest.mark.parametrize(
    "source",
    [
        "SevenBridgesExportOperator.partial(task_id='a').expand_kwargs(choose())",
        "SevenBridgesExportOperator(task_id='a', location=choose())",
        "SevenBridgesExportOperator(task_id='a', location=export.output['location'])",
        "SevenBridgesExportOperator(task_id='a', location=\"{{ ti.xcom_pull('choose') }}\")",
        "BashOperator(task_id='a', bash_command=\"echo {{ ti.xcom_pull('choose') }}\")",
        "SevenBridgesBulkExportOperator(task_id='a', exports=[{'location': \"{{ task_instance.xcom_pull('b') }}\"}])",
        "use(choose())",
        "SevenBridgesExportOperator(task_id='a', location='{{ ds }}')",
    ],
)
def test_a_path_into_rendered_text_is_found(source):
    decorated = "@task\ndef choose(): ...\n@task()\ndef use(x): ...\n"
    assert list(flows(decorated + source))


@pytest.mark.parametrize(
    "source", ["expand_kwargs([{'file': 'x'}])", f"XOperator(location='results/{DATE}/{{{{ run_id }}}}/output')"]
)
def test_constant_text_is_not_a_path(source):
    assert not list(flows(source))
