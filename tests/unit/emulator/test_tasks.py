from __future__ import annotations

import re
import threading
import time
import uuid

import pytest
import requests

from airflow_sb_provider.emulator.seed import (
    ALIGNMENTS,
    ALL_TYPES,
    BAM,
    BAM_INDEX,
    CHECKSUMS,
    GZIP,
    PROJECT,
    REPORT,
    VCF,
    WORD_COUNT,
)
from tests.unit.emulator.conftest import Caller, as_file, code, eventually

WAITING = {"task_queued_seconds": 60}
RUNNING = {"task_running_seconds": 60}
UNKNOWN = "0d0e6f3c-5b1e-4f6a-9a6e-00000000ffff"


def messages(task):
    return [(error["input"], error["message"]) for error in task["errors"]]


def listed(caller, **query):
    answer = caller.get("/tasks", params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def until_status(caller, task_id, status):
    return eventually(lambda: task if (task := caller.task(task_id))["status"] == status else None)


def test_a_draft_has_the_documented_fields(emulator, caller):
    answer = caller.create(description="first line\n second \u202e", execution_settings={"max_parallel_instances": 2})
    task = answer.json()
    assert answer.status_code == 200
    assert uuid.UUID(task["id"]).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", task["created_time"])
    assert task == {
        "href": f"{emulator.url}/tasks/{task['id']}",
        "id": task["id"],
        "name": "a task",
        "status": "DRAFT",
        "description": "first line\n second \u202e",
        "project": PROJECT,
        "app": f"{WORD_COUNT}/1",
        "type": "v2",
        "created_by": "demo",
        "created_time": task["created_time"],
        "start_time": task["created_time"],
        "batch": False,
        "use_interruptible_instances": False,
        "execution_settings": {"max_parallel_instances": 2},
        "output_location": {},
        "inputs": {"files": [{**as_file(VCF), "name": "NA12878.vcf"}]},
        "outputs": {"counts": None, "total": None},
        "errors": [],
        "warnings": [],
    }
    assert caller.task(task["id"]) == task
    assert caller.task(task["id"].upper()) == task
    assert [each.id for each in emulator.tasks] == emulator.requests[0].tasks == [task["id"]]


def test_a_task_goes_through_its_states(emulator, caller):
    emulator.knobs.update(task_creating_seconds=0.05, task_queued_seconds=0.05, task_running_seconds=0.05)
    task_id = caller.draft()
    seen = [caller.run(task_id).json()["status"]]

    def terminal():
        task = caller.task(task_id)
        if task["status"] != seen[-1]:
            seen.append(task["status"])
        assert ("end_time" in task) == bool(task["outputs"]["counts"]) == (task["status"] == "COMPLETED")
        return task if "end_time" in task else None

    task = eventually(terminal)
    assert seen == ["CREATING", "QUEUED", "RUNNING", "COMPLETED"]
    assert task["executed_by"] == "demo"
    assert task["price"] == {
        "currency": "USD",
        "amount": "0.01",
        "breakdown": {"storage": "0.00", "computation": "0.01"},
    }
    status = task["execution_status"]
    assert (status["message"], status["steps_completed"], status["steps_total"]) == ("Completed", 1, 1)
    assert status["queued_duration"] >= 50
    assert status["running_duration"] >= 50
    assert status["duration"] >= status["queued_duration"] + status["running_duration"] - 1
    assert (status["account_limit"], status["system_limit"]) == (False, False)


def test_a_task_runs_only_once(emulator, caller):
    emulator.knobs.update(**WAITING)
    task_id = caller.draft()
    assert caller.run(task_id).json()["status"] == "QUEUED"
    assert code(caller.run(task_id)) == (403, 7007)
    emulator.knobs.run_refused_code = 7010
    assert code(caller.run(task_id)) == (400, 7010)
    emulator.knobs.task_queued_seconds = 0
    assert caller.finished(task_id)["status"] == "COMPLETED"
    assert code(caller.run(task_id)) == (400, 7010)
    assert len(caller.get("/files", params={"project": PROJECT, "origin.task": task_id}).json()["items"]) == 1


def test_run_with_the_creation(caller):
    task = caller.create(query="?action=run").json()
    assert task["status"] in ("QUEUED", "RUNNING", "COMPLETED")
    assert caller.finished(task["id"])["status"] == "COMPLETED"
    assert code(caller.create(query="?action=walk")) == (400, 7013)


def test_a_draft_with_errors_does_not_run(caller):
    answer = caller.create(query="?action=run", inputs={"other": 1})
    task = answer.json()
    assert (answer.status_code, task["status"]) == (200, "DRAFT")
    assert messages(task) == [("files", "Required input is missing.")]
    assert task["warnings"] == [{"input": "other", "message": "The app has no such input."}]
    assert code(caller.run(task["id"])) == (400, 7024)
    assert caller.task(task["id"])["status"] == "DRAFT"
    fixed = caller.patch(f"/tasks/{task['id']}", {"inputs": {"files": [as_file(VCF)], "other": None}}).json()
    assert fixed["errors"] == []
    assert caller.run(task["id"]).status_code == 200


def test_the_function_gets_only_the_inputs_of_the_app(emulator, caller):
    app = emulator.add_app("names", lambda inputs: {"names": sorted(inputs)}, {"x": "int?"}, {"names": "string[]"})
    assert caller.completed(app.id, {"y": as_file("f" * 24)})["outputs"]["names"] == ["x"]


def test_errors_as_texts(emulator, caller):
    emulator.knobs.task_errors = "texts"
    assert caller.create(inputs={}).json()["errors"] == ["files: Required input is missing."]


@pytest.mark.parametrize(
    ("app", "inputs", "port", "text"),
    [
        (WORD_COUNT, {"files": as_file(VCF)}, "files", "a list of File"),
        (WORD_COUNT, {"files": ["text"]}, "files", "expected a File"),
        (WORD_COUNT, {"files": [{"class": ["File"], "path": {}}]}, "files", "expected a File"),
        (WORD_COUNT, {"files": [{"class": "File", "path": []}]}, "files", "expected a File"),
        (WORD_COUNT, {"files": [as_file("f" * 24)]}, "files", "does not exist"),
        (WORD_COUNT, {"files": [as_file(ALIGNMENTS)]}, "files", "is a folder"),
        (GZIP, {"file": as_file(VCF, "Directory")}, "file", "expected a File"),
        (CHECKSUMS, {"files": [], "algorithm": "crc"}, "algorithm", "one of md5, sha1, sha256"),
        (ALL_TYPES, {"count": "3"}, "count", "expected int"),
        (ALL_TYPES, {"sample": {"id": "x"}}, "sample", "depth: expected int"),
        (ALL_TYPES, {"folder": as_file(VCF, "Directory")}, "folder", "is a file"),
    ],
)
def test_inputs_are_validated_against_the_ports(caller, app, inputs, port, text):
    reasons = dict(messages(caller.create(app, inputs=inputs).json()))
    assert text in reasons[port]


def test_a_file_that_nobody_may_read(emulator, caller):
    file = emulator.add_file("secret.txt", b"", forbidden=True)
    reasons = dict(messages(caller.create(GZIP, inputs={"file": as_file(file.id)}).json()))
    assert "Insufficient privileges" in reasons["file"]


def test_a_file_that_disappears_makes_the_draft_invalid(emulator, caller):
    file = emulator.add_file("x.txt", b"")
    task_id = caller.draft(GZIP, inputs={"file": as_file(file.id)})
    del emulator.platform.files[file.id]
    assert code(caller.run(task_id)) == (400, 7024)
    assert "does not exist" in caller.task(task_id)["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"project": "demo/nothing"}, (404, 3002)),
        ({"project": "nothing"}, (400, 3012)),
        ({"project": None}, (400, 3006)),
        ({"app": None}, (400, 7015)),
        ({"app": "word-count"}, (400, 6011)),
        ({"app": f"{WORD_COUNT}/9"}, (404, 6002)),
        ({"app": f"{PROJECT}/nothing"}, (404, 6002)),
        ({"inputs": []}, (400, 90000)),
        ({"name": 1}, (400, 90000)),
        ({"inputs": {"files": 1, "x": "y"}, "output_location": "x"}, (400, 90000)),
        ({"use_interruptible_instances": "yes"}, (400, 90000)),
        ({"execution_settings": {"max_parallel_instances": 0}}, (400, 90000)),
        ({"inputs": {"files": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}}, (400, 90000)),
        ({"batch_input": ""}, (400, 7018)),
        ({"batch_input": "files"}, (400, 7023)),
        ({"batch_by": {"type": "ITEM"}}, (400, 7023)),
        ({"batch": True}, (400, 7023)),
        ({"batch_input": "files", "batch_by": {"type": "CRITERIA"}}, (400, 7019)),
        ({"batch_input": "files", "batch_by": {"type": "CRITERIA", "criteria": []}}, (400, 7019)),
        ({"batch_input": "files", "batch_by": {"type": "SIZE"}}, (400, 7020)),
    ],
)
def test_rejected_creations(emulator, caller, body, expected):
    assert code(caller.create(**{"app": WORD_COUNT, **body})) == expected
    assert emulator.tasks == []


def test_a_body_that_is_no_object(caller):
    assert code(caller.post("/tasks", ["x"])) == (400, 90000)


def test_the_name_is_made_from_the_app(caller):
    assert caller.create(name=None).json()["name"].startswith("Word count run - ")


def test_access(emulator, caller):
    task_id = caller.draft()
    reader = Caller(emulator, emulator.add_token("reader", "read"))
    blind = Caller(emulator, emulator.add_token("blind", "none"))
    assert reader.task(task_id)["id"] == task_id
    assert listed(reader) == [task_id]
    assert code(reader.create()) == (403, 3001)
    for refused in (
        reader.run(task_id),
        reader.abort(task_id),
        reader.post(f"/tasks/{task_id}/actions/clone"),
        reader.patch(f"/tasks/{task_id}", {"name": "x"}),
        reader.delete(f"/tasks/{task_id}"),
        blind.get(f"/tasks/{task_id}"),
        blind.run(task_id),
    ):
        assert code(refused) == (403, 7001)
    assert code(blind.create()) == (403, 3001)
    assert listed(blind) == []
    assert code(caller.get(f"/tasks/{UNKNOWN}")) == (404, 7002)
    assert code(caller.get("/tasks/no-uuid")) == (400, 7005)
    forbidden = emulator.add_app("secret", lambda inputs: {}, {}, {})
    emulator.platform.apps[forbidden.id] = [type(forbidden)(forbidden.id, 0, forbidden.raw, forbidden.run, True)]
    assert code(caller.create(forbidden.id)) == (403, 6001)
    assert forbidden.id not in [item["id"] for item in caller.get("/apps").json()["items"]]


def test_editing(emulator, caller):
    emulator.knobs.update(**WAITING)
    task_id = caller.draft()
    changed = caller.patch(f"/tasks/{task_id}", {"name": "new", "description": "d", "app": f"{WORD_COUNT}/0"}).json()
    assert (changed["name"], changed["description"], changed["app"]) == ("new", "d", f"{WORD_COUNT}/0")
    assert changed["inputs"]["files"][0]["path"] == VCF
    inputs = caller.patch(f"/tasks/{task_id}/inputs", {"files": [as_file(BAM)], "extra": 1}).json()
    assert inputs == {"files": [{**as_file(BAM), "name": "NA12878.bam"}], "extra": 1}
    assert caller.get(f"/tasks/{task_id}/inputs").json() == inputs
    assert caller.patch(f"/tasks/{task_id}/inputs", {"extra": 2}).json() == {**inputs, "extra": 2}
    assert caller.patch(f"/tasks/{task_id}", {"inputs": {"extra": 3}}).json()["inputs"] == {**inputs, "extra": 3}
    assert code(caller.patch(f"/tasks/{task_id}/inputs", None)) == (400, 7012)
    assert code(caller.patch(f"/tasks/{task_id}", {"description": 1})) == (400, 90000)
    caller.run(task_id)
    assert code(caller.patch(f"/tasks/{task_id}/inputs", {"files": []})) == (403, 7026)
    assert code(caller.patch(f"/tasks/{task_id}", {"name": "x", "description": "y"})) == (403, 7026)
    assert caller.patch(f"/tasks/{task_id}", {"name": "renamed"}).json()["name"] == "renamed"


def test_a_clone_is_a_new_draft(caller):
    task = caller.completed(WORD_COUNT, {"files": [as_file(VCF)]}, description="d")
    clone = caller.post(f"/tasks/{task['id']}/actions/clone").json()
    same = ("name", "description", "app", "project", "inputs", "output_location", "batch")
    assert [clone[name] for name in same] == [task[name] for name in same]
    assert clone["id"] != task["id"]
    assert (clone["status"], clone["outputs"]) == ("DRAFT", {"counts": None, "total": None})
    rerun = caller.post(f"/tasks/{task['id']}/actions/clone?action=run").json()
    assert caller.finished(rerun["id"])["outputs"]["total"] == task["outputs"]["total"]


@pytest.mark.parametrize(("speed", "status"), [(WAITING, "QUEUED"), (RUNNING, "RUNNING")])
def test_abort(emulator, caller, speed, status):
    emulator.knobs.update(task_aborting_seconds=60, **speed)
    task_id = caller.draft()
    caller.run(task_id)
    until_status(caller, task_id, status)
    assert caller.abort(task_id).json()["status"] == "ABORTING"
    assert code(caller.abort(task_id)) == (400, 7011)
    assert caller.task(task_id)["status"] == "ABORTING"
    emulator.knobs.task_aborting_seconds = 0
    task = caller.finished(task_id)
    assert (task["status"], task["execution_status"]["message"]) == ("ABORTED", "Aborted")
    assert task["end_time"]
    assert task["outputs"] == {"counts": None, "total": None}
    assert caller.get("/files", params={"project": PROJECT, "origin.task": task_id}).json()["items"] == []


def test_abort_while_the_function_computes(emulator, caller):
    started, go_on = threading.Event(), threading.Event()

    def slow(inputs):
        started.set()
        go_on.wait(60)
        return {"done": 1}

    emulator.knobs.update(**RUNNING)
    app = emulator.add_app("slow", slow, {}, {"done": "int"})
    task_id = caller.create(app.id, "?action=run").json()["id"]
    assert started.wait(60)
    assert caller.abort(task_id).json()["status"] == "ABORTING"
    go_on.set()
    assert caller.finished(task_id)["status"] == "ABORTED"
    assert caller.task(task_id)["outputs"] == {"done": None}


def test_abort_while_outputs_are_stored(emulator, caller, monkeypatch):
    storing, go_on = threading.Event(), threading.Event()
    store = emulator.platform.storage.put_source

    def slow(file_id, data):
        storing.set()
        go_on.wait(60)
        store(file_id, data)

    monkeypatch.setattr(emulator.platform.storage, "put_source", slow)
    task_id = caller.create(query="?action=run").json()["id"]
    assert storing.wait(60)
    assert caller.abort(task_id).json()["status"] == "ABORTING"
    go_on.set()
    task = caller.finished(task_id)
    assert (task["status"], task["outputs"]["counts"]) == ("ABORTED", None)


def test_what_cannot_be_aborted(emulator, caller):
    emulator.knobs.update(**WAITING)
    draft = caller.draft()
    assert code(caller.abort(draft)) == (400, 7011)
    caller.run(draft)
    emulator.knobs.abort_refused_code = 7008
    assert code(caller.abort(draft)) == (403, 7008)
    emulator.knobs.task_queued_seconds = 0
    caller.finished(draft)
    for refused_code, status in ((7008, 403), (7011, 400)):
        emulator.knobs.abort_refused_code = refused_code
        assert code(caller.abort(draft)) == (status, refused_code)
    assert caller.task(draft)["status"] == "COMPLETED"


def test_delete(emulator, caller):
    emulator.knobs.update(**WAITING)
    draft, running = caller.draft(), caller.draft()
    caller.run(running)
    deleted = caller.delete(f"/tasks/{draft}")
    assert (deleted.status_code, deleted.text) == (204, "")
    assert code(caller.get(f"/tasks/{draft}")) == (404, 7002)
    assert code(caller.delete(f"/tasks/{running}")) == (400, 7013)
    emulator.knobs.task_queued_seconds = 0
    output = caller.finished(running)["outputs"]["counts"]["path"]
    assert caller.delete(f"/tasks/{running}").status_code == 204
    assert caller.get(f"/files/{output}").status_code == 200
    assert emulator.tasks == []


# Lists


def test_the_list_is_brief_and_filtered(emulator, caller):
    emulator.add_file("x.txt", b"x", project="demo/more")
    done = caller.completed(WORD_COUNT, {"files": []})
    draft = caller.draft(name="b")
    elsewhere = caller.draft(project="demo/more", name="a")
    answer = caller.get("/tasks")
    assert answer.headers["X-Total-Matching-Query"] == "3"
    assert {frozenset(item) for item in answer.json()["items"]} == {frozenset(("href", "id", "name", "project"))}
    assert listed(caller) == [elsewhere, draft, done["id"]]
    assert listed(caller, project=PROJECT) == [draft, done["id"]]
    assert listed(caller, status="DRAFT", project=PROJECT) == [draft]
    assert listed(caller, status="COMPLETED") == [done["id"]]
    assert listed(caller, batch="true") == []
    assert len(listed(caller, batch="false")) == 3
    assert listed(caller, origin_id=UNKNOWN) == listed(caller, parent=UNKNOWN) == []
    assert listed(caller, order_by="name") == [elsewhere, done["id"], draft]
    assert listed(caller, order_by="created_time", order="desc") == [elsewhere, draft, done["id"]]
    assert listed(caller, order_by="end_time", order="desc")[0] == done["id"]
    assert code(caller.get("/tasks?project=demo/nothing")) == (404, 3002)
    for status in ("CREATING", "ABORTING", "completed", "x"):
        assert code(caller.get(f"/tasks?status={status}")) == (400, 7006)
    for query in ("order_by=size", "order_by=name&order=up", "created_from=soon", "batch=maybe", "offset=x"):
        assert code(caller.get(f"/tasks?{query}")) == (400, 90000)
    [item] = caller.get("/tasks?fields=_all&status=COMPLETED").json()["items"]
    assert item == caller.task(done["id"])
    [item] = caller.get("/tasks?fields=id,status,execution_status.message&status=COMPLETED").json()["items"]
    assert item == {"id": done["id"], "status": "COMPLETED", "execution_status": {"message": "Completed"}}


def test_pages_of_the_list(caller):
    tasks = [caller.draft(name=f"{number}") for number in range(5)]
    page = caller.get("/tasks?order_by=name&limit=2&fields=name,status&status=DRAFT").json()
    seen = [page["items"]]
    while onward := [link["href"] for link in page["links"] if link["rel"] == "next"]:
        page = caller.session.get(onward[0]).json()
        seen.append(page["items"])
    assert [[item["name"] for item in items] for items in seen] == [["0", "1"], ["2", "3"], ["4"]]
    assert listed(caller, order_by="name", offset=4) == tasks[4:]


def test_the_list_by_time(emulator, caller):
    task = caller.completed(WORD_COUNT, {"files": []})
    draft = caller.draft()
    times = {"created": task["created_time"], "started": task["start_time"], "ended": task["end_time"]}
    for name, moment in times.items():
        assert task["id"] in listed(caller, **{f"{name}_from": moment})
        assert task["id"] in listed(caller, **{f"{name}_to": moment})
        assert listed(caller, **{f"{name}_to": "2020-01-01T00:00:00"}) == []
        assert listed(caller, **{f"{name}_from": "2999-01-01"}) == []
    assert draft not in listed(caller, ended_from="2020-01-01")
    assert len(listed(caller, created_from="2020-01-01T00:00:00+02:00")) == 2
    emulator.knobs.date_skew_seconds = 3600
    shifted = caller.task(draft)["created_time"]
    assert shifted > task["created_time"]
    assert draft in listed(caller, created_from=shifted)


def test_the_list_can_be_late(emulator, caller):
    done = caller.completed(WORD_COUNT, {"files": []})["id"]
    emulator.knobs.list_lag_seconds = 3600
    assert listed(caller) == []
    # An hour ago the task was there, and a draft.
    task = emulator.platform.tasks[done]
    left = [task.started_on.replace(year=2020), *(moment for moment, _ in task.past_states)]
    task.started_on = left[0]
    assert listed(caller, status="DRAFT") == [done]
    [item] = caller.get("/tasks?fields=_all").json()["items"]
    assert (item["status"], "end_time" in item, item["outputs"]["counts"]) == ("DRAFT", False, None)
    assert caller.task(done)["status"] == "COMPLETED"
    emulator.knobs.list_lag_seconds = 0
    assert listed(caller, status="COMPLETED") == [done]


def test_knobs_of_lists(emulator, caller):
    task_id = caller.draft()
    emulator.knobs.brief_ignores_fields = True
    [item] = caller.get("/tasks?fields=_all").json()["items"]
    assert set(item) == {"href", "id", "name", "project"}
    emulator.knobs.total_lies = True
    assert caller.get("/tasks").headers["X-Total-Matching-Query"] == "2"
    emulator.knobs.job_lag_seconds = 3600
    assert code(caller.get(f"/tasks/{task_id}")) == (404, 7002)
    assert caller.post("/bulk/tasks/get", {"task_ids": [task_id]}).json()["items"][0]["error"]["code"] == 7002
    assert caller.run(task_id).status_code == 200


def test_bulk_get_can_cost_its_items(emulator, caller):
    emulator.knobs.update(bulk_cost="items", rate_limit=10)
    answer = caller.post("/bulk/tasks/get", {"task_ids": [UNKNOWN] * 4})
    assert answer.headers["X-RateLimit-Remaining"] == "6"


def test_bulk_get(caller):
    tasks = [caller.draft(), caller.draft()]
    ids = [tasks[1], UNKNOWN, "x", tasks[0], 7]
    items = caller.post("/bulk/tasks/get", {"task_ids": ids}).json()["items"]
    assert [item["error"]["code"] for item in items if "error" in item] == [7002, 7005, 7005]
    assert [items[0]["resource"], items[3]["resource"]] == [caller.task(tasks[1]), caller.task(tasks[0])]
    assert code(caller.post("/bulk/tasks/get", {"task_ids": [UNKNOWN] * 101})) == (400, 9011)
    assert code(caller.post("/bulk/tasks/get", {"ids": []})) == (400, 9011)


# Batches


def batch(caller, by="ITEM", files=(VCF, BAM, BAM_INDEX), app=GZIP, query="?action=run", **body):
    port = "file" if app == GZIP else "files"
    by = {"type": "ITEM"} if by == "ITEM" else {"type": "CRITERIA", "criteria": [f"metadata.{by}"]}
    answer = caller.create(
        app, query, inputs={port: [as_file(file) for file in files]}, batch_input=port, batch_by=by, **body
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def children(caller, parent):
    items = caller.get(f"/tasks?parent={parent}&fields=_all&order_by=name").json()["items"]
    assert all(item["parent"] == parent for item in items)
    return items


def test_a_batch_by_item(emulator, caller):
    draft = batch(caller, query="")
    assert (draft["status"], draft["batch"], draft["batch_input"]) == ("DRAFT", True, "file")
    assert draft["batch_by"] == {"type": "ITEM"}
    assert children(caller, draft["id"]) == []
    caller.run(draft["id"])
    parent = caller.finished(draft["id"])
    status = parent["execution_status"]
    counts = [status[name] for name in ("queued", "running", "completed", "failed", "aborted")]
    assert (parent["status"], counts) == ("COMPLETED", [0, 0, 3, 0, 0])
    assert parent["price"]["amount"] == "0.03"
    assert parent["outputs"] == {"compressed": None}
    made = children(caller, draft["id"])
    assert [child["batch_group"]["value"] for child in made] == ["NA12878.vcf", "NA12878.bam", "NA12878.bam.bai"]
    assert [child["inputs"]["file"]["path"] for child in made] == [VCF, BAM, BAM_INDEX]
    assert [child["outputs"]["compressed"]["name"] for child in made] == [
        "NA12878.vcf.gz",
        "NA12878.bam.gz",
        "NA12878.bam.bai.gz",
    ]
    assert {child["batch"] for child in made} == {False}
    assert len({child["execution_status"]["steps_total"] for child in made}) == 1
    [job] = caller.get(f"/tasks/{made[0]['id']}/execution_details").json()["jobs"]
    assert job["status"] == "COMPLETED"
    assert caller.get(f"/tasks/{parent['id']}/execution_details").json()["jobs"] == []
    assert len({log for task in emulator.tasks for log in task.logs.values()}) == 6
    assert len(listed(caller)) == 4
    emulator.knobs.list_shows_children = False
    assert listed(caller) == [draft["id"]]
    assert len(children(caller, draft["id"])) == 3


def test_a_batch_by_metadata(emulator, caller):
    others = [emulator.add_file(f"{name}.txt", b"x", metadata={"sample_id": name}) for name in ("s2", "s3", "s2")]
    files = (VCF, BAM, REPORT, *(file.id for file in others))
    parent = batch(caller, "sample_id", files, WORD_COUNT)
    assert caller.finished(parent["id"])["status"] == "COMPLETED"
    made = children(caller, parent["id"])
    groups = {child["batch_group"]["value"]: [file["path"] for file in child["inputs"]["files"]] for child in made}
    # The report has no sample.
    assert groups == {"NA12878": [VCF, BAM], "s2": [others[0].id, others[2].id], "s3": [others[1].id]}
    assert made[0]["batch_group"]["fields"] == {"metadata.sample_id": "NA12878"}


def test_batches_that_cannot_run(caller):
    nothing = batch(caller, "tissue")
    assert (nothing["status"], messages(nothing)) == (
        "DRAFT",
        [("file", "No batch element matches the criteria.")],
    )
    [(_, too_many)] = messages(batch(caller, "sample_id"))
    assert too_many == "Invalid value in NA12878: expected a File."
    single = caller.create(GZIP, inputs={"file": as_file(VCF)}, batch_input="file", batch_by={"type": "item"}).json()
    assert messages(single) == [("file", "A list is needed to batch by.")]
    unknown = caller.create(batch_input="other", batch_by={"type": "ITEM"}).json()
    assert messages(unknown) == [("other", "The app has no such input to batch by.")]
    [(_, missing)] = messages(batch(caller, files=("f" * 24,)))
    assert "does not exist" in missing


def test_a_batch_that_runs_as_one_task(caller):
    draft = batch(caller, app=WORD_COUNT, query="")
    one = caller.run(draft["id"], "?batch=false").json()
    assert one["batch"] is False
    assert caller.finished(draft["id"])["outputs"]["counts"]
    assert children(caller, draft["id"]) == []
    assert batch(caller, app=WORD_COUNT, query="?action=run&batch=false")["batch"] is False
    assert code(caller.create(query="?batch=false")) == (400, 7021)
    assert code(caller.create(query="?batch=false&action=run")) == (400, 7022)
    assert code(caller.run(caller.draft(), "?batch=false")) == (400, 7022)


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_a_batch_of_which_one_child_fails(emulator, caller, status):
    emulator.knobs.batch_failed_status = status
    emulator.trouble("job_fails", after=1, message="No memory.")
    parent = caller.finished(batch(caller)["id"])
    assert parent["status"] == status
    assert (parent["execution_status"]["completed"], parent["execution_status"]["failed"]) == (2, 1)
    [failed] = [child for child in children(caller, parent["id"]) if child["status"] == "FAILED"]
    assert failed["execution_status"]["message"] == "No memory."


def test_abort_of_a_batch_aborts_its_children(emulator, caller):
    emulator.knobs.update(max_running=1, **RUNNING)
    parent = batch(caller)["id"]
    until_status(caller, parent, "RUNNING")
    eventually(lambda: [child["status"] for child in children(caller, parent)].count("RUNNING") == 1)
    assert caller.task(parent)["execution_status"]["queued"] == 2
    assert caller.abort(parent).json()["status"] == "ABORTING"
    assert caller.finished(parent)["execution_status"]["aborted"] == 3
    assert {child["status"] for child in children(caller, parent)} == {"ABORTED"}
    assert caller.delete(f"/tasks/{parent}").status_code == 204
    assert emulator.tasks == []


# Outputs


def test_outputs_in_a_folder_of_the_project(emulator, caller):
    location = {"main_location": "/Analysis/<task_name>/../<task_id>"}
    task = caller.completed(GZIP, {"file": as_file(VCF)}, output_location=location, name="a/b")
    folder = emulator.platform.folder_at(f"Analysis/a_b/{task['id']}", PROJECT)
    names = [item["name"] for item in caller.get(f"/files/{folder.id}/list").json()["items"]]
    assert sorted(names) == ["NA12878.vcf.gz", "NA12878.vcf.gz.gzi"]
    assert task["output_location"] == location


@pytest.mark.parametrize("volume", ["demo/results", "results"])
def test_outputs_on_a_volume_are_aliases(emulator, caller, volume):
    location = {"main_location": f"volumes://{volume}/run/<project_id>", "main_location_alias": "/on-volume"}
    task = caller.completed(GZIP, {"file": as_file(VCF)}, output_location=location)
    file = caller.get(f"/files/{task['outputs']['compressed']['path']}").json()
    at = f"run/{PROJECT}/NA12878.vcf.gz"
    assert file["storage"] == {"type": "VOLUME", "volume": "demo/results", "location": at}
    assert file["parent"] == emulator.platform.folder_at("on-volume", PROJECT).id
    assert emulator.object_bytes("demo/results", at) == emulator.file_bytes(file["id"])
    assert emulator.object_bytes("demo/results", f"{at}.gzi")
    assert code(caller.export(file["id"])) == (403, 9006)
    # An alias can be an input, too.
    assert caller.completed(WORD_COUNT, {"files": [as_file(file["id"])]})["outputs"]["total"] > 0


def test_each_output_can_have_its_own_place(emulator, caller):
    nodes = {"report": {"output_location": "volumes://demo/archive/r"}}
    inputs = {"count": 1, "flag": False, "sample": {"id": "x", "depth": 1}, "tags": []}
    location = {"main_location": "main", "nodes_override": True, "nodes_location": nodes}
    task = caller.completed(ALL_TYPES, inputs, output_location=location)
    report = caller.get(f"/files/{task['outputs']['report']['path']}").json()
    assert report["storage"]["location"] == "r/report.json"
    folder = caller.get(f"/files/{task['outputs']['folder']['path']}").json()
    assert folder["parent"] == emulator.platform.folder_at("main", PROJECT).id


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ({"main_location": "volumes://demo/nothing/x"}, "volume does not exist"),
        ({"main_location": "volumes://demo/readonly/x"}, "not configured for writing"),
        ({"main_location": 1}, "must be text"),
        ({"nodes_location": []}, ""),
        ({"nodes_location": {"counts": "x"}}, "Invalid nodes_location"),
    ],
)
def test_places_that_cannot_be_written(caller, location, text):
    errors = messages(caller.create(output_location=location).json())
    assert [name for name, _ in errors] == (["output_location"] if text else [])
    assert all(text in message for _, message in errors)


def test_a_name_that_is_taken_gets_a_number(emulator, caller):
    names = [caller.completed(WORD_COUNT, {"files": [as_file(VCF)]})["outputs"]["counts"]["name"] for _ in range(3)]
    assert names == ["counts.tsv", "_1_counts.tsv", "_2_counts.tsv"]


def test_tasks_at_the_same_time_choose_different_names(emulator, caller, monkeypatch):
    store = emulator.platform.storage.put_source

    def slow(file_id, data):
        time.sleep(0.02)
        store(file_id, data)

    monkeypatch.setattr(emulator.platform.storage, "put_source", slow)
    parent = batch(caller, files=(VCF, BAM, REPORT, BAM_INDEX), app=WORD_COUNT)["id"]
    caller.finished(parent)
    names = {child["outputs"]["counts"]["name"] for child in children(caller, parent)}
    assert names == {"counts.tsv", "_1_counts.tsv", "_2_counts.tsv", "_3_counts.tsv"}


def test_an_output_never_replaces_an_object(emulator, caller):
    emulator.put_object("demo/archive", "counts.tsv", b"mine")
    inputs = {"files": [as_file(VCF)]}
    output = caller.completed(WORD_COUNT, inputs, output_location={"main_location": "volumes://demo/archive"})[
        "outputs"
    ]
    assert output["counts"]["name"] == "_1_counts.tsv"
    assert emulator.object_bytes("demo/archive", "counts.tsv") == b"mine"
    assert emulator.object_bytes("demo/archive", "_1_counts.tsv") == emulator.file_bytes(output["counts"]["path"])


def test_a_volume_that_becomes_read_only_fails_the_task(emulator, caller):
    emulator.knobs.stuck = True
    location = {"main_location": "volumes://demo/archive/x"}
    task_id = caller.create(query="?action=run", output_location=location).json()["id"]
    emulator.platform.volumes["demo/archive"].access_mode = "RO"
    emulator.knobs.stuck = False
    task = caller.finished(task_id)
    assert (task["status"], "not configured for writing" in task["execution_status"]["message"]) == ("FAILED", True)


def test_storage_that_fails(emulator, caller, monkeypatch):
    def fail(file_id, data):
        raise OSError("disk full")

    monkeypatch.setattr(emulator.platform.storage, "put_source", fail)
    task = caller.finished(caller.create(query="?action=run").json()["id"])
    assert (task["status"], task["execution_status"]["message"]) == ("FAILED", "Unexpected error occurred.")


def test_late_outputs(emulator, caller):
    emulator.knobs.task_outputs_lag_seconds = 3600
    task = caller.completed(WORD_COUNT, {"files": [as_file(VCF)]})
    assert task["outputs"] == {}
    emulator.knobs.task_outputs_lag_seconds = 0
    assert caller.task(task["id"])["outputs"]["counts"]


def test_logs_belong_to_no_folder(emulator, caller):
    task = caller.completed(WORD_COUNT, {"files": []})
    [job] = caller.get(f"/tasks/{task['id']}/execution_details").json()["jobs"]
    assert job["command_line"] == "word-count"
    assert set(job["logs"]) == {"cmd.log", "job.err.log"}
    log = job["logs"]["cmd.log"]
    assert log.startswith(f"{emulator.url}/files/")
    assert emulator.file_bytes(log.split("/files/")[1].removesuffix("/download_info")) == b"word-count\n"
    names = [item["name"] for item in caller.get(f"/files?project={PROJECT}").json()["items"]]
    assert "cmd.log" not in names


# Knobs and faults


def test_no_funds(emulator, caller):
    emulator.knobs.no_funds = True
    task = caller.create(query="?action=run").json()
    assert (task["status"], [name for name, _ in messages(task)]) == ("DRAFT", ["billing_group"])
    emulator.knobs.no_funds = False
    assert caller.run(task["id"]).status_code == 200


@pytest.mark.parametrize("reason", ["none", "account_limit", "system_limit"])
def test_why_a_task_is_queued(emulator, caller, reason):
    emulator.knobs.update(queue_reason=reason, **WAITING)
    status = caller.create(query="?action=run").json()["execution_status"]
    assert {name: status[name] for name in ("account_limit", "system_limit")} == {
        name: name == reason for name in ("account_limit", "system_limit")
    }
    instances = caller.get("/rate_limit").json()["instance_limit"]
    assert (instances["remaining"] == 0) == (reason == "account_limit")


def test_numbers_as_text(emulator, caller):
    emulator.knobs.task_numbers = "str"
    status = caller.completed(WORD_COUNT, {"files": []})["execution_status"]
    assert (status["steps_total"], status["steps_completed"]) == ("1", "1")
    assert status["duration"].isdecimal()


def test_omitted_fields_and_times(emulator, caller):
    emulator.knobs.update(omit={"task.errors", "price"}, timestamp_style="offset", created_status=201)
    answer = caller.create()
    assert answer.status_code == 201
    assert "errors" not in answer.json()
    assert answer.json()["created_time"].endswith("+02:00")


def test_stuck_and_limited_queues(emulator, caller):
    emulator.knobs.stuck = True
    first, second = (caller.create(query="?action=run").json()["id"] for _ in range(2))
    assert caller.task(first)["status"] == "QUEUED"
    emulator.knobs.update(max_running=1, task_running_seconds=60)
    emulator.knobs.stuck = False
    eventually(lambda: {caller.task(each)["status"] for each in (first, second)} == {"QUEUED", "RUNNING"})
    emulator.knobs.task_running_seconds = 0
    assert {caller.finished(each)["status"] for each in (first, second)} == {"COMPLETED"}


def test_instant_tasks(emulator, caller):
    emulator.knobs.instant = True
    assert caller.create(query="?action=run").json()["status"] == "COMPLETED"
    assert caller.run(caller.draft()).json()["status"] == "COMPLETED"


def test_a_task_that_fails(emulator, caller):
    emulator.trouble("job_fails", path="/v2/storage/*")
    emulator.trouble("job_fails", path="/v2/tasks/*", code=9100, message="Disk is full.")
    task = caller.finished(caller.create(query="?action=run").json()["id"])
    assert (task["status"], task["execution_status"]["message"]) == ("FAILED", "Disk is full.")
    assert task["execution_status"]["steps_completed"] == 0
    assert caller.get(f"/tasks/{task['id']}/execution_details").json()["message"] == "Disk is full."
    # The other fault waits for an export.
    assert caller.ended(caller.export())["state"] == "FAILED"


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING"])
def test_a_task_that_is_stuck_until_it_is_released(emulator, caller, status):
    emulator.trouble("job_stuck", state=status if status == "RUNNING" else None)
    first, second = (caller.create(query="?action=run").json()["id"] for _ in range(2))
    caller.finished(second)
    until_status(caller, first, status)
    released = requests.post(emulator.url.replace("/v2", f"/_local/tasks/{first}/release"), timeout=60)
    assert released.status_code == 200
    assert caller.finished(first)["status"] == "COMPLETED"


def test_a_held_task_can_be_aborted(emulator, caller):
    emulator.trouble("job_stuck")
    task_id = caller.create(query="?action=run").json()["id"]
    caller.abort(task_id)
    assert caller.finished(task_id)["status"] == "ABORTED"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/tasks", "DRAFT"), ("/v2/tasks/*/actions/run", "COMPLETED"), ("/v2/tasks/*/actions/abort", "ABORTED")],
)
def test_a_lost_response(emulator, caller, path, status):
    emulator.knobs.update(task_running_seconds=60 if status == "ABORTED" else 0)
    lost = emulator.trouble("lose_reply", path=path)
    if status == "DRAFT":
        with pytest.raises(requests.ConnectionError):
            caller.create()
    else:
        task_id = caller.draft()
        if status == "ABORTED":
            caller.run(task_id)
        with pytest.raises(requests.ConnectionError):
            (caller.run if status == "COMPLETED" else caller.abort)(task_id)
    assert lost.struck == 1
    [task] = emulator.tasks
    assert task.reply_lost == (status != "ABORTED")
    eventually(lambda: task.state == status)


def test_other_faults_of_requests(emulator, caller):
    emulator.trouble("drop", path="/v2/tasks")
    with pytest.raises(requests.ConnectionError):
        caller.create()
    assert emulator.tasks == []
    emulator.trouble("deliver_twice", path="/v2/tasks")
    assert caller.create().status_code == 200
    assert [task.reply_lost for task in emulator.tasks] == [False, True]
    first, second = (task.id for task in emulator.tasks)
    emulator.trouble("deliver_twice", path="/v2/tasks/*/actions/run", answered="second")
    assert code(caller.run(first)) == (403, 7007)
    emulator.trouble("error", path="/v2/tasks/*/actions/run", code=0, done=True)
    assert caller.run(second).status_code == 503
    assert {caller.finished(each)["status"] for each in (first, second)} == {"COMPLETED"}
    emulator.trouble("late_accept", path="/v2/tasks", seconds=0.1)
    with pytest.raises(requests.ConnectionError):
        caller.create()
    assert len(emulator.tasks) == 2
    eventually(lambda: len(emulator.tasks) == 3 and emulator.tasks[2].reply_lost)


def test_spoiled_items_of_bulk_calls(emulator, caller):
    ids = [caller.draft(), caller.draft()]

    def items(kind, **options):
        emulator.trouble(kind, **options)
        return caller.post("/bulk/tasks/get", {"task_ids": ids}).json()["items"]

    assert items("spoiled_bulk", ids=ids[0], how="stateless")[0]["resource"]["status"] is None
    assert items("spoiled_bulk", ids=ids[0], how="nul")[0]["resource"]["name"] == "\0"
    assert items("spoiled_bulk", ids=ids[1], how="null")[1] is None
    assert [item["resource"]["id"] for item in items("swapped_bulk")] == ids[::-1]
    brief = items("brief_bulk", path="/v2/bulk/tasks/get", shuffled=False)
    assert "status" not in brief[0]["resource"]


def test_listeners_see_tasks(emulator, caller):
    seen = []
    emulator.on("accepted", lambda record: seen.append((record.path, list(record.tasks))))
    task_id = caller.draft()
    caller.run(task_id)
    assert seen == [("/v2/tasks", [task_id]), (f"/v2/tasks/{task_id}/actions/run", [task_id])]


def test_state_and_reset(emulator, caller):
    def local(path, **options):
        return requests.request(
            options.pop("method", "GET"), emulator.url.replace("/v2", f"/_local/{path}"), timeout=60
        )

    location = {"main_location": "volumes://demo/results/x"}
    caller.completed(WORD_COUNT, {"files": []}, output_location=location)
    emulator.knobs.update(**WAITING)
    running = caller.create(query="?action=run").json()["id"]
    state = local("state").json()
    assert [task["status"] for task in state["tasks"]] == ["COMPLETED", "QUEUED"]
    assert state["tasks"][1]["id"] == running
    assert GZIP in state["apps"]
    state = local("reset", method="POST").json()
    assert (state["tasks"], len(state["apps"])) == ([], 4)
    assert {file["name"] for file in state["files"]}.isdisjoint({"counts.tsv", "cmd.log"})
    with pytest.raises(FileNotFoundError):
        emulator.object_bytes("demo/results", "x/counts.tsv")
    assert code(caller.get(f"/tasks/{running}")) == (404, 7002)
    emulator.knobs.task_queued_seconds = 0
    assert caller.completed(WORD_COUNT, {"files": [as_file(VCF)]})
