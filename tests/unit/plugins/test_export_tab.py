from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest

from airflow_sb_provider.get_provider_info import get_provider_info
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.plugins.export_tab import PREFIX, SevenBridgesExportPlugin, StaticFilesApp
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

PAGE = StaticFilesApp()


def get(path, method="GET", root="/airflow" + PREFIX):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": root + path, "root_path": root}
    asyncio.run(PAGE(scope, None, send))
    head, body = sent
    return head["status"], {name.decode(): value.decode() for name, value in head["headers"]}, body["body"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/tab.js", "text/javascript"), ("/tab.css", "text/css"), ("/icon.svg", "image/svg+xml")],
)
def test_the_files_of_the_page(path, kind):
    status, headers, body = get(path)
    assert status == 200
    assert headers["content-type"].startswith(kind)
    assert int(headers["content-length"]) == len(body) > 100
    assert get(path, "HEAD") == (200, headers, b"")


@pytest.mark.parametrize("path", ["/", "/tab.js", "/nothing"])
def test_every_response_restricts_what_the_page_may_do(path):
    _, headers, _ = get(path)
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "frame-ancestors")} == {"'self'"}
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/nothing", "/../export_tab.py", "/%2e%2e/export_tab.py", "//etc/passwd", "/page/tab.js"]
)
def test_nothing_else_is_served(path):
    assert get(path)[0] == 404


def test_other_methods_are_rejected():
    status, headers, _ = get("/", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_the_page_loads_nothing_else_and_runs_no_text_as_code():
    html, script, style = (get(path)[2].decode() for path in ("/", "/tab.js", "/tab.css"))
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", html)
    for text in (html, script, style):
        assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert not re.search(
        r"\.innerHTML\s*=[^=]|insertAdjacent|document\.write|\beval\(|new Function|srcdoc|setAttribute\(\"on", script
    )


def test_airflow_gets_the_tab_from_the_plugin():
    [view] = SevenBridgesExportPlugin.external_views
    assert (view["name"], view["destination"]) == ("Seven Bridges", "task_instance")
    # Relative: Airflow may be served under a path of its own.
    assert view["href"].startswith(PREFIX[1:] + "/?")
    assert re.findall(r"\{(\w+)\}", view["href"]) == ["DAG_ID", "RUN_ID", "TASK_ID", "MAP_INDEX"]
    [plugin] = get_provider_info()["plugins"]
    assert plugin["name"] == SevenBridgesExportPlugin.name
    assert plugin["plugin-class"].endswith(SevenBridgesExportPlugin.__name__)


@pytest.mark.parametrize("task", [SevenBridgesExportOperator, SevenBridgesBulkExportOperator, SevenBridgesExportSensor])
def test_airflow_3_4_offers_the_tab_on_every_task_of_the_provider(task):
    """Its rule: a list matches if one of its items is among the values."""
    [view] = SevenBridgesExportPlugin.external_views
    [(path, values)] = view["applies_to"].items()
    record, field = path.split(".")
    assert record == "task"
    assert set(values) & set(getattr(task, field))


def test_the_plugin_is_light_enough_for_every_process():
    """It imports only Airflow's plugin class: no server library, no hook, no operator."""
    code = """if True:
        import sys, warnings
        try:
            import airflow.sdk.plugins_manager
        except ImportError:
            import airflow.plugins_manager
        before = set(sys.modules)
        warnings.simplefilter("error")
        import airflow_sb_provider.plugins.export_tab
        print(sorted(set(sys.modules) - before))
    """
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    new = eval(found.stdout.splitlines()[-1])
    assert [name for name in new if not name.startswith("airflow_sb_provider")] == []
    assert len(new) <= 3


def test_a_websocket_gets_no_response():
    asyncio.run(PAGE({"type": "websocket"}, None, None))
