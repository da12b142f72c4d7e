"""The tab's text for given statuses: Chromium loads the page from a server that responds as Airflow's API does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_sb_provider.plugins.export_tab import PREFIX, StaticFilesApp
from airflow_sb_provider.task_status import PROGRESS, STATUS

pytestmark = [pytest.mark.ui, pytest.mark.timeout(900)]
EXPORT = {"kind": "export", "try_number": 1, "file": {"id": "f1"}, "volume": "me/out", "location": "a"}
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
    """Shows the tab of a task with these XComs and returns its text."""
    values = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            if path.startswith(PREFIX):
                status, media_type, body = StaticFilesApp._respond("GET", path.removeprefix(PREFIX))
            else:
                name = path.rpartition("/")[2]
                # A browser requests an icon too.
                status, media_type = 200 if name in values else 404, "application/json"
                body = json.dumps(values.get(name)).encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def show(task, status=None, progress=None):
        xcoms = {STATUS: status, PROGRESS: progress}
        keys = [{"key": key, "map_index": -1} for key, value in xcoms.items() if value]
        values.clear()
        values.update({key: {"value": value} for key, value in xcoms.items()})
        values.update({"xcomEntries": {"xcom_entries": keys}, "t": {"try_number": 1, **task}})
        chromium.go(f"http://127.0.0.1:{server.server_port}{PREFIX}/?dag_id=d&run_id=r&task_id=t&map_index=-1")
        # The page loads before its script has run.
        is_shown = "return typeof shown !== 'undefined' && shown !== ''"
        chromium.until(lambda: chromium.driver.execute_script(is_shown), "the tab")
        return chromium.text()

    yield show
    server.shutdown()
    thread.join()
    server.server_close()


def figures(text):
    """The figures of a bulk export by their labels."""
    lines = text.splitlines()
    names = ("exported", "failed", "skipped", "in flight", "no response", "not submitted yet", "not submitted")
    return {name: lines[lines.index(name) - 1] for name in names if name in lines}


@pytest.mark.parametrize("state", ["failed", "up_for_retry"])
def test_a_bulk_export_that_ended_early_shows_exports_in_flight_and_not_submitted(tab, state):
    text = tab({"state": state}, BULK)
    assert figures(text) == {
        "exported": "0",
        "failed": "1",
        "in flight": "2",
        "no response": "2",
        "not submitted": "3",
    }
    assert "2 exports are still in flight" in text
    assert "2 submissions have no response" in text
    assert "<b>a</b>" in text


def test_a_running_bulk_export_shows_what_is_not_submitted_yet(tab):
    text = tab({"state": "running"}, BULK | {"state": "RUNNING", "unanswered": 0})
    assert figures(text) == {"exported": "0", "failed": "1", "in flight": "2", "not submitted yet": "5"}
    assert "still in flight" not in text
    assert "no response" not in text


def test_the_progress_of_a_wait_moves_files_out_of_in_flight(tab):
    progress = {"at": "2026-01-01T00:01:00+00:00", "note": "Message.", "job_kind": "export", "total": 2}
    progress["counts"] = {"COMPLETED": 1}
    text = tab({"state": "deferred"}, BULK | {"state": "RUNNING", "unanswered": 0}, progress)
    assert figures(text) == {"exported": "1", "failed": "1", "in flight": "1", "not submitted yet": "5"}


def test_a_completed_bulk_export_leaves_nothing_open(tab):
    counts = {"COMPLETED": 7, "SKIPPED": 1}
    text = tab({"state": "success"}, BULK | {"state": "COMPLETED", "counts": counts, "unanswered": 0, "errors": []})
    assert figures(text) == {"exported": "7", "failed": "0", "skipped": "1", "in flight": "0", "not submitted": "0"}


@pytest.mark.parametrize(
    ("state", "word"), [("PENDING", "Queued"), ("CHECKING", "Checking"), ("ARCHIVING", "ARCHIVING"), (None, "Starting")]
)
def test_a_single_export_shows_its_state_even_an_unknown_one(tab, state, word):
    assert word.upper() in tab({"state": "running"}, EXPORT | ({"state": state} if state else {})).upper()


@pytest.mark.parametrize("status", [EXPORT | {"state": "RUNNING"}, BULK])
def test_the_properties_of_the_objects_are_among_the_options(tab, status):
    properties = {"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "arn:<b>1</b>", "aws_storage_class": None}
    text = tab({"state": "running"}, status | {"copy_only": True, "properties": properties})
    options = text.partition("Export options")[2].splitlines()
    assert options[options.index("Encryption") :][:6] == [
        *("Encryption", "aws:kms"),
        *("KMS key", "arn:<b>1</b>"),
        *("Storage class", "none"),
    ]


def test_a_task_that_does_not_wait_points_to_the_sensor(tab):
    text = tab({"state": "success"}, EXPORT | {"state": "PENDING", "export_id": "e1"})
    assert 'Use SevenBridgesExportSensor with export_id "e1" to wait.' in text


SENSOR = {
    "kind": "sensor",
    "job_kind": "export",
    "try_number": 1,
    "at": "2026-01-01T00:00:00+00:00",
    "total": 2,
    "counts": {"COMPLETED": 1, "FAILED": 1},
    "jobs": [
        {"id": "e2", "state": "FAILED", "text": "No <b>access</b>."},
        {"id": "e1", "state": "COMPLETED", "text": "me/out/a, 10 bytes"},
    ],
    "error": None,
}


@pytest.mark.parametrize(("state", "word"), [("success", "Done"), ("running", "Done"), ("skipped", "Skipped")])
def test_a_sensor_ends_with_what_became_of_each_export(tab, state, word):
    # The last poll is from before the end.
    counts = {"RUNNING": 2}
    progress = {"at": "2025-12-31T00:00:00+00:00", "note": None, "job_kind": "export", "total": 2, "counts": counts}
    text = tab({"state": state}, SENSOR, progress)
    assert text.splitlines()[0].upper() == word.upper()
    assert "1 of 2 exports completed" in text
    assert "Running" not in text
    words = text.upper().split()
    rows = ["E2", "FAILED", "NO", "<B>ACCESS</B>.", "E1", "COMPLETED", "ME/OUT/A,", "10", "BYTES"]
    assert words[words.index("E2") :][: len(rows)] == rows


def test_a_sensor_that_failed_shows_the_reason_and_every_export(tab):
    error = {"outcome": "TIMEOUT", "reason": "1 of 2 exports did not finish in time: e2 (RUNNING)."}
    text = tab({"state": "failed"}, SENSOR | {"error": error})
    assert text.splitlines()[0].upper() == "TIMED OUT"
    assert "1 of 2 exports did not finish in time: e2 (RUNNING)." in text
    assert "me/out/a, 10 bytes" in text


def test_a_sensor_without_an_export_says_so(tab):
    text = tab({"state": "success"}, SENSOR | {"total": 0, "counts": {}, "jobs": []})
    assert "There was no export to wait for" in text


def test_a_task_without_a_status_says_so(tab):
    assert "no status yet" in tab({"state": "running", "operator": "SevenBridgesExportOperator"})


TASK = {
    "kind": "task",
    "try_number": 1,
    "at": "2026-01-01T00:01:00+00:00",
    "app": "me/genomics/<b>align/7",
    "project": "me/results",
    "name": "Align <i>NA12878</i>",
    "task_id": "t1",
    "page": "https://platform.example/u/me/results/tasks/t1/",
    "app_page": None,
    "steps_completed": None,
    "steps_total": None,
    "counts": None,
    "waits_for": None,
    "price": None,
    "adopted": False,
    "started_on": "2026-01-01T00:00:00+00:00",
    "finished_on": None,
    "state": "QUEUED",
}
POLLED = {
    "at": "2026-01-01T01:00:00+00:00",
    "note": "Task t1 is RUNNING: 2 of 5 steps completed.",
    "job_kind": "task",
    "task_id": "t1",
    "state": "RUNNING",
    "started_on": "2026-01-01T00:00:00+00:00",
    "finished_on": None,
    "steps_completed": 2,
    "steps_total": 5,
    "counts": None,
    "waits_for": None,
    "price": "1.25 USD",
}
DONE = {"state": "COMPLETED", "price": "3.10 USD", "outputs": 12, "finished_on": "2026-01-01T02:30:00+00:00"}


def rows(chromium):
    """The names and values of the page's lists."""
    read = "return [...document.querySelectorAll('dt')].map(each => [each.innerText, each.nextSibling.innerText])"
    return dict(chromium.driver.execute_script(read))


def test_a_queued_task_of_the_platform_shows_what_it_waits_for(tab, chromium):
    text = tab({"state": "deferred"}, TASK, POLLED | {"state": "QUEUED", "waits_for": "the account's limit"})
    assert text.splitlines()[:2] == ["Queued", "Run me/genomics/<b>align in me/results"]
    found = rows(chromium)
    assert found["Waits for"] == "the account's limit"
    assert (found["App"], found["Name"]) == ("me/genomics/<b>align/7", "Align <i>NA12878</i>")
    assert (found["Task id"], found["Task's page"]) == ("t1", TASK["page"])
    assert "App's page" not in found
    assert found["Origin"] == "Started by this Airflow task"


def test_a_running_task_of_the_platform_shows_steps_duration_and_price(tab, chromium):
    text = tab({"state": "deferred"}, TASK, POLLED)
    assert text.splitlines()[:2] == ["Running", "Running me/genomics/<b>align in me/results"]
    found = rows(chromium)
    assert (found["Steps"], found["Duration"]) == ("2 of 5 completed", "1 hour so far")
    assert (found["Price"], "Output files" in found) == ("1.25 USD so far", False)
    # The rows show all that the note says.
    assert POLLED["note"] not in text
    note = "Polling failed; still waiting."
    assert note in tab({"state": "deferred"}, TASK, POLLED | {"note": note})


def test_a_completed_task_of_the_platform_shows_its_outputs_and_price(tab, chromium):
    text = tab({"state": "success"}, TASK | DONE, POLLED)
    assert text.splitlines()[:2] == ["Completed", "Ran me/genomics/<b>align in me/results"]
    found = rows(chromium)
    assert (found["Duration"], found["Price"], found["Output files"]) == ("2 hours 30 minutes", "3.10 USD", "12")
    assert "so far" not in text


@pytest.mark.parametrize(
    ("state", "word", "title"),
    [("FAILED", "Failed", "The task failed"), ("ABORTED", "Aborted", "The task was aborted")],
)
def test_a_task_of_the_platform_that_ended_badly_says_why_and_what_a_retry_does(tab, state, word, title):
    error = {"outcome": "FAILED", "reason": "The <b>tool</b> failed.", "remedy": "See the task's page."}
    status = TASK | {"state": state, "finished_on": "2026-01-01T00:30:00+00:00", "error": error}
    lines = tab({"state": "up_for_retry"}, status, POLLED).splitlines()
    assert lines[0] == word
    assert lines[2] == "Airflow will retry the task. The retry runs the app again, in a new task."
    start = lines.index(title)
    assert lines[start : start + 3] == [title, "The <b>tool</b> failed.", "What to do: See the task's page."]
    timeline = lines[lines.index("Timeline") + 1 :][:6]
    assert [timeline[0], *timeline[2:]] == ["Queued", "Running", word, "2026-01-01 00:30:00 UTC", "after 30 minutes"]


def test_a_task_of_the_platform_that_was_never_created_has_no_empty_part(tab):
    error = {"outcome": "REFUSED", "reason": "app: it is missing."}
    text = tab({"state": "failed"}, {"kind": "task", "try_number": 1, "at": TASK["at"], "error": error})
    assert text.splitlines() == ["Rejected", "Run an app", "The request was rejected", "app: it is missing."]


def test_a_batch_shows_how_many_of_its_tasks_are_in_each_state(tab, chromium):
    counts = {"COMPLETED": 6, "RUNNING": 3, "QUEUED": 1}
    lines = tab({"state": "deferred"}, TASK | {"counts": {"QUEUED": 10}}, POLLED | {"counts": counts}).splitlines()
    start = lines.index("Batch of 10 tasks")
    shown = lines[start + 1 : start + 11]
    assert dict(zip(shown[1::2], shown[::2], strict=True)) == {
        "completed": "6",
        "failed": "0",
        "aborted": "0",
        "running": "3",
        "queued": "1",
    }
    bar = chromium.driver.find_element("css selector", "[role=progressbar]")
    assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == ("6", "10")
    ended = tab({"state": "success"}, TASK | DONE | {"counts": {"COMPLETED": 9, "FAILED": 1}})
    assert ended.splitlines()[0] == "Partially failed"


def test_an_airflow_task_that_ended_before_its_task_of_the_platform_says_so(tab):
    text = tab({"state": "success"}, TASK)
    assert 'Use SevenBridgesTaskSensor with sevenbridges_task_id "t1" to wait.' in text
    text = tab({"state": "failed"}, TASK, POLLED)
    assert text.splitlines()[0] == "In flight"
    assert "It continues and costs money." in text


def test_a_sensor_of_tasks_of_the_platform_calls_them_tasks(tab, chromium):
    text = tab({"state": "deferred"}, None, POLLED)
    assert text.splitlines()[:2] == ["Running", "Waiting for task t1"]
    assert rows(chromium)["Steps"] == "2 of 5 completed"
    many = {"at": POLLED["at"], "note": None, "job_kind": "task", "total": 4}
    text = tab({"state": "deferred"}, None, many | {"counts": {"RUNNING": 2, "ABORTING": 1, "ABORTED": 1}})
    assert "Waiting for 4 tasks" in text
    states = {"Completed": "0", "Failed": "0", "Aborted": "1", "Running": "2", "Queued": "0", "Aborting": "1"}
    assert {name: value for name, value in rows(chromium).items() if name != "Updated"} == states
    text = tab({"state": "failed"}, SENSOR | {"job_kind": "task", "error": {"outcome": "FAILED", "reason": "No."}})
    assert "The task failed" in text
    assert "Task id" in text
    assert "xport" not in text


def test_an_error_shows_reason_remedy_and_details_apart(tab):
    error = {
        "outcome": "REFUSED",
        "reason": "The location holds an object.\nIt is <b>another</b> file's.",
        "remedy": "Choose another location.",
        "code": 9107,
        "http_status": 409,
        "request_id": "r-1",
        "more_info": "https://docs.example/9107",
    }
    lines = tab({"state": "failed"}, EXPORT | {"error": error}).splitlines()
    start = lines.index("The request was rejected")
    assert lines[start : start + 12] == [
        "The request was rejected",
        "The location holds an object.",
        "It is <b>another</b> file's.",
        "What to do: Choose another location.",
        *("Code", "9107", "HTTP status", "409", "Request id", "r-1", "More information", "https://docs.example/9107"),
    ]


def test_times_have_a_date_and_a_zone_and_durations_are_words(tab, chromium):
    times = {"started_on": "2026-07-01T12:00:00+00:00", "finished_on": "2026-07-01T13:05:10+00:00"}
    status = EXPORT | {"state": "COMPLETED", "export_id": "e1", **times}
    tab({"state": "success"}, status)
    # Airflow stores the time zone that the user chooses.
    chromium.driver.execute_script("localStorage.setItem('timezone', JSON.stringify('America/New_York'))")
    text = tab({"state": "success"}, status)
    assert "2026-07-01 09:05:10 EDT" in text
    assert "after 1 hour 5 minutes" in text


def test_a_failed_file_shows_its_state_code_reason_and_details_apart(tab, chromium):
    messages = [
        "No (code here) access. Request <b>me</b>. (code 9100, HTTP 403) See https://docs.example/9100",
        "The state is unknown.",
    ]
    rows = [("FAILED", 9100, messages[0]), ("IN_DOUBT", None, messages[1])]
    errors = [
        {"file": f"f{number}", "name": f"n{number}", "state": state, "code": code, "message": message}
        for number, (state, code, message) in enumerate(rows)
    ]
    tab({"state": "failed"}, BULK | {"errors": errors})
    cells = "return [...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.innerText))"
    assert chromium.driver.execute_script(cells) == [
        ["File", "State", "Code", "Reason"],
        [
            "n0\nf0",
            "Failed",
            "9100",
            "No (code here) access. Request <b>me</b>.\n(code 9100, HTTP 403) See https://docs.example/9100",
        ],
        ["n1\nf1", "In doubt", "", messages[1]],
    ]


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        ({"finished_on": "2026-07-01T12:01:00+00:00"}, ["Failed", "2026-07-01 12:01:00 UTC", "after 1 minute"]),
        ({}, ["Failed", "reported 2026-07-01 12:02:00 UTC"]),
    ],
)
def test_the_timeline_says_when_an_export_failed_or_when_that_was_reported(tab, status, lines):
    status = {
        **EXPORT,
        "export_id": "e1",
        "state": "FAILED",
        "at": "2026-07-01T12:02:00+00:00",
        "started_on": "2026-07-01T12:00:00+00:00",
        "error": {"outcome": "FAILED", "reason": "No access."},
        **status,
    }
    steps = tab({"state": "failed"}, status).partition("Timeline\n")[2].partition("\nSource file")[0]
    assert steps.splitlines() == ["Queued", "2026-07-01 12:00:00 UTC", "Running", *lines]
