"""What the tab says of given statuses: Chromium loads its page from a server that answers as Airflow's API does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_sb_provider.plugins.export_tab import PREFIX, StaticFilesApp
from airflow_sb_provider.task_status import PROGRESS, STATUS

pytestmark = [pytest.mark.ui, pytest.mark.timeout(120)]
BULK = {
    "kind": "bulk",
    "try_number": 1,
    "at": "2026-01-01T00:00:00+00:00",
    "state": "FAILED",
    "total": 8,
    "counts": {"FAILED": 1, "PENDING": 1, "ARCHIVING": 1, "WAITING": 5},
    "unanswered": 2,
    "adopted": 0,
    "bytes": 0,
    "bytes_total": 80,
    "seconds": 3.0,
    "errors": [{"file": "f1", "name": "<b>a</b>", "state": "FAILED", "code": 9100, "message": "No access."}],
    "manifest": None,
}


@pytest.fixture
def tab(chromium):
    """Shows the tab of a task with these XComs, and returns its text."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            if path.startswith(PREFIX):
                status, kind, body = StaticFilesApp._answer("GET", path.removeprefix(PREFIX))
            else:
                name = path.rpartition("/")[2]
                # A browser asks for an icon too.
                status, kind = 200 if name in answers else 404, "application/json"
                body = json.dumps(answers.get(name)).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def show(task, status=None, progress=None):
        found = {STATUS: status, PROGRESS: progress}
        keys = [{"key": key, "map_index": -1} for key, value in found.items() if value]
        answers.clear()
        answers.update({key: {"value": value} for key, value in found.items()})
        answers.update({"xcomEntries": {"xcom_entries": keys}, "t": {"try_number": 1, **task}})
        chromium.go(f"http://127.0.0.1:{server.server_port}{PREFIX}/?dag_id=d&run_id=r&task_id=t&map_index=-1")
        # The page may be there before its script has run.
        is_shown = "return typeof shown !== 'undefined' && shown !== ''"
        chromium.until(lambda: chromium.driver.execute_script(is_shown), "the tab")
        return chromium.text()

    yield show
    server.shutdown()
    thread.join()
    server.server_close()


def figures(text):
    """The numbers of the tab of many, by what they count."""
    lines = text.splitlines()
    names = ("exported", "failed", "skipped", "in flight", "without a response", "still to submit", "not submitted")
    return {name: lines[lines.index(name) - 1] for name in names if name in lines}


@pytest.mark.parametrize("state", ["failed", "up_for_retry"])
def test_a_batch_that_ended_early_says_what_goes_on_and_what_was_not_submitted(tab, state):
    text = tab({"state": state}, BULK)
    assert figures(text) == {
        "exported": "0",
        "failed": "1",
        "in flight": "2",
        "without a response": "2",
        "not submitted": "3",
    }
    assert "2 exports go on" in text
    assert "2 exports were submitted without a response" in text
    assert "<b>a</b>" in text


def test_a_batch_that_runs_says_what_is_still_to_submit(tab):
    text = tab({"state": "running"}, BULK | {"state": "RUNNING", "unanswered": 0})
    assert figures(text) == {"exported": "0", "failed": "1", "in flight": "2", "still to submit": "5"}
    assert "go on" not in text
    assert "without a response" not in text


def test_what_a_wait_has_seen_moves_files_from_in_flight(tab):
    progress = {"at": "2026-01-01T00:01:00+00:00", "note": "Seen.", "total": 2, "counts": {"COMPLETED": 1}}
    text = tab({"state": "deferred"}, BULK | {"state": "RUNNING", "unanswered": 0}, progress)
    assert figures(text) == {"exported": "1", "failed": "1", "in flight": "1", "still to submit": "5"}


def test_all_done_leaves_nothing_open(tab):
    counts = {"COMPLETED": 7, "SKIPPED": 1}
    text = tab({"state": "success"}, BULK | {"state": "COMPLETED", "counts": counts, "unanswered": 0, "errors": []})
    assert figures(text) == {"exported": "7", "failed": "0", "skipped": "1", "in flight": "0", "not submitted": "0"}


@pytest.mark.parametrize(
    ("state", "word"), [("PENDING", "Queued"), ("CHECKING", "Checking"), ("ARCHIVING", "ARCHIVING"), (None, "Starting")]
)
def test_a_single_export_shows_its_state_also_one_that_is_not_known(tab, state, word):
    status = {"kind": "export", "try_number": 1, "file": {"id": "f1"}, "volume": "me/out", "location": "a"}
    assert word.upper() in tab({"state": "running"}, status | ({"state": state} if state else {})).upper()


def test_a_task_without_a_status_says_so(tab):
    assert "no status yet" in tab({"state": "running", "operator": "SevenBridgesExportOperator"})
