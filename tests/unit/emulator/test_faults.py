from __future__ import annotations

import json
import socket
import time

import pytest
import requests

from airflow_sb_provider.emulator.faults import KINDS
from airflow_sb_provider.emulator.seed import BAM, VCF
from tests.unit.emulator.conftest import code, eventually, export_body


def test_a_request_is_processed_although_its_response_is_lost(emulator, caller):
    trouble = emulator.trouble("lose_reply")
    with pytest.raises(requests.ConnectionError):
        caller.export()
    (job,) = emulator.exports
    assert job.reply_lost
    assert trouble.struck == 1
    assert emulator.requests[-1].status is None
    assert emulator.requests[-1].troubles == ["lose_reply"]
    assert caller.ended(job.id)["state"] == "COMPLETED"


@pytest.mark.parametrize("kind", ["drop", "refuse_connection"])
def test_a_dropped_request_is_not_processed(emulator, caller, kind):
    emulator.trouble(kind)
    with pytest.raises(requests.ConnectionError):
        caller.export()
    assert emulator.exports == []
    assert caller.export().status_code == 200


def test_an_incomplete_request_is_not_processed(emulator, caller, caplog):
    head = f"POST /v2/storage/exports HTTP/1.1\r\nHost: localhost\r\nX-SBG-Auth-Token: {emulator.token}\r\n"
    with socket.create_connection((emulator.host, emulator.port), timeout=5) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{{".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000) == b""
    assert caller.get("/storage/exports").json()["items"] == emulator.exports == []
    assert "Error handling request" not in caplog.text


def test_a_late_acceptance_comes_after_the_connection_is_cut(emulator, caller):
    emulator.trouble("late_accept", seconds=0.15)
    with pytest.raises(requests.ConnectionError):
        caller.export()
    assert caller.get("/storage/exports").json()["items"] == []
    (job,) = eventually(lambda: emulator.exports)
    eventually(lambda: job.reply_lost)
    assert caller.ended(job.id)["state"] == "COMPLETED"


def test_cut_json(emulator, caller):
    emulator.trouble("cut_json", times=2)
    answer = caller.export()
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)
    assert len(emulator.exports) == 1
    emulator.troubles.clear()
    emulator.trouble("cut_json", connection=True)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        caller.export(BAM, "2")
    assert len(emulator.exports) == 2


@pytest.mark.parametrize("done", [False, True])
def test_a_gateways_page(emulator, caller, done):
    emulator.trouble("html", status=504, done=done)
    answer = caller.export()
    assert answer.status_code == 504
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<html>")
    assert len(emulator.exports) == done


def test_a_gateways_page_with_another_body(emulator, caller):
    emulator.trouble("html", method="GET", path="/v2/user", status=404, body="default backend - 404")
    answer = caller.get("/user")
    assert (answer.status_code, answer.text) == (404, "default backend - 404")


def test_a_spoiled_item(emulator, caller):
    def items(how: str, *spoiled: str) -> list[object]:
        emulator.trouble("spoiled_bulk", ids=" ".join(spoiled), how=how)
        answer = caller.post("/bulk/files/get", {"file_ids": [VCF, BAM]})
        return answer.json()["items"] if answer.status_code == 200 else answer.json()["code"]

    assert items("null", VCF)[0] is None
    assert items("null", VCF)[1]["resource"]["id"] == BAM
    assert [item["resource"]["id"] for item in items("missing", VCF)] == [BAM]
    assert items("missing", VCF, BAM) == []
    assert items("stateless", BAM)[1]["resource"]["state"] is None
    assert items("nul", BAM)[1]["resource"]["source"]["file"] == "\0"
    assert items("refused", BAM) == 90000
    assert len(items("refused", "another")) == 2


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("default backend - 404", "text/plain; charset=utf-8"),
        ('{"message": "no route"}', "application/json"),
        ("", "text/plain"),
    ],
)
def test_a_gateways_text(emulator, caller, done, body, content_type):
    emulator.trouble("text", body=body, content_type=content_type, done=done)
    answer = caller.export()
    assert (answer.status_code, answer.text) == (404, body)
    assert answer.headers["Content-Type"] == content_type
    assert len(emulator.exports) == done
    emulator.trouble("text", method="GET", path="/v2/user", status=503)
    assert (caller.get("/user").status_code, caller.get("/user").status_code) == (503, 200)


@pytest.mark.parametrize("done", [False, True])
def test_an_error(emulator, caller, done):
    emulator.trouble("error", status=500, code=9100, message="Boom.", done=done)
    answer = caller.export()
    assert code(answer) == (500, 9100)
    assert answer.json()["message"] == "Boom."
    assert len(emulator.exports) == done


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("refusal", [(503, 0), (400, 9011)])
def test_an_error_response_to_an_accepted_submission(emulator, caller, bulk, refusal):
    emulator.trouble("error", path="*", code=refusal[1], done=True)
    answer = caller.post("/bulk/storage/exports/create", {"items": [export_body()]}) if bulk else caller.export()
    assert code(answer) == refusal
    (job,) = emulator.exports
    assert job.reply_lost
    assert caller.ended(job.id)["state"] == "COMPLETED"


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("answered", ["first", "second"])
def test_a_request_that_is_delivered_twice(emulator, caller, bulk, answered):
    emulator.knobs.stuck = True
    trouble = emulator.trouble("deliver_twice", path="*", answered=answered)
    if bulk:
        body = {"items": [export_body(), export_body(BAM, "2")]}
        items = caller.post("/bulk/storage/exports/create", body).json()["items"]
        ids = [item["resource"]["id"] for item in items]
    else:
        ids = [caller.export().json()["id"]]
    half = len(ids)
    accepted = [job.id for job in emulator.exports]
    assert accepted[:half] == ids if answered == "first" else accepted[half:] == ids
    assert len(accepted) == 2 * half
    assert [job.id for job in emulator.exports if not job.reply_lost] == ids
    first, second = emulator.requests
    assert first.json == second.json
    assert [first.exports, second.exports] == [accepted[:half], accepted[half:]]
    assert (first.status, second.status) == ((200, None) if answered == "first" else (None, 200))
    assert trouble.struck == 1


def test_the_caller_may_get_the_rejection_of_the_second_delivery(emulator, caller):
    emulator.knobs.instant = True
    emulator.trouble("deliver_twice", answered="second")
    assert code(caller.export()) == (403, 9006)
    (job,) = emulator.exports
    assert (job.state, job.reply_lost) == ("COMPLETED", True)


def test_a_brief_bulk_response(emulator, caller):
    def answered(**options: object) -> list[dict[str, object]]:
        emulator.trouble("brief_bulk", **options)
        body = {"items": [export_body(copy_only=True), export_body("nothing"), export_body(BAM, "2")]}
        answer = caller.post("/bulk/storage/exports/create", body, params={"copy_only": "true"})
        return answer.json()["items"]

    emulator.knobs.stuck = True
    items = answered()
    assert [set(item.get("resource", item)) for item in items] == [
        {"href", "id", "state"},
        {"error"},
        {"href", "id", "state"},
    ]
    assert [items[2]["resource"]["id"], items[0]["resource"]["id"]] == [job.id for job in emulator.exports]
    items = answered(shuffled=False)
    assert [items[0]["resource"]["id"], items[2]["resource"]["id"]] == [job.id for job in emulator.exports[2:]]


def test_delays(emulator, caller):
    emulator.trouble("delay", before=10, reply=0)
    with pytest.raises(requests.Timeout):
        caller.session.post(f"{emulator.url}/storage/exports", json=export_body(), timeout=0.1)
    assert emulator.exports == []
    emulator.trouble("delay", reply=0.1)
    began = time.monotonic()
    assert caller.export().status_code == 200
    assert time.monotonic() - began >= 0.1


def test_a_redirect(emulator, caller):
    emulator.trouble("redirect", method="GET", path="/v2/user", to="http://127.0.0.1:1/thief", status=307)
    answer = caller.get("/user")
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://127.0.0.1:1/thief")


def test_bulk_responses_that_do_not_match_the_request(emulator, caller):
    def ids(kind: str | None = None) -> list[str]:
        if kind:
            emulator.trouble(kind)
        answer = caller.post("/bulk/files/get", {"file_ids": [VCF, BAM]})
        return [item["resource"]["id"] for item in answer.json()["items"]]

    assert ids() == [VCF, BAM]
    assert ids("short_bulk") == [VCF]
    assert ids("long_bulk") == [VCF, BAM, BAM]
    assert ids("swapped_bulk") == [BAM, VCF]
    assert ids() == [VCF, BAM]


def test_rate_headers(emulator, caller):
    emulator.trouble("no_rate_headers")
    assert not [name for name in caller.get("/user").headers if "RateLimit" in name]
    emulator.trouble("bad_rate_headers", value="-")
    assert caller.get("/user").headers["X-RateLimit-Reset"] == "-"
    assert caller.get("/user").headers["X-RateLimit-Limit"] == "1000"


def test_job_fails(emulator, caller):
    emulator.trouble("job_fails", code=9206, message="No PUT.", after=1)
    assert caller.ended(caller.export(BAM, "1"))["state"] == "COMPLETED"
    failed = caller.ended(caller.export())
    assert failed["state"] == "FAILED"
    assert (failed["error"]["status"], failed["error"]["code"]) == (403, 9206)
    assert failed["error"]["message"] == "No PUT."
    assert caller.get(f"/files/{VCF}").json()["storage"]["type"] == "PLATFORM"


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_job_stuck(emulator, caller, state):
    emulator.trouble("job_stuck", state=state)
    stuck = caller.export().json()["id"]
    assert caller.ended(caller.export(BAM, "2"))["state"] == "COMPLETED"
    eventually(lambda: caller.get(f"/storage/exports/{stuck}").json()["state"] == state)
    emulator.release(stuck)
    assert caller.ended(stuck)["state"] == "COMPLETED"


def test_times_and_after_and_the_path(emulator, caller):
    trouble = emulator.trouble("error", method="GET", path="/v2/files/*", times=2, after=1, code=90005)
    answers = [caller.get(f"/files/{VCF}").status_code for _ in range(5)]
    assert answers == [200, 503, 503, 200, 200]
    assert trouble.struck == 2
    assert caller.get("/user").status_code == 200
    emulator.trouble("error", method="*", path="*", times=0)
    assert {caller.get("/user").status_code for _ in range(5)} == {503}
    emulator.troubles.clear()
    assert caller.get("/user").status_code == 200


def test_faults_can_be_combined(emulator, caller):
    emulator.trouble("delay", reply=0.05)
    emulator.trouble("lose_reply")
    with pytest.raises(requests.ConnectionError):
        caller.export()
    assert emulator.requests[-1].troubles == ["delay", "lose_reply"]


def test_unknown_kinds_and_options_are_rejected(emulator):
    with pytest.raises(ValueError, match="earthquake"):
        emulator.trouble("earthquake")
    with pytest.raises(ValueError, match="color"):
        emulator.trouble("html", color="red")


def test_every_kind_is_described():
    assert all(text for text, _, _ in KINDS.values())


def test_a_cut_connection_does_not_affect_the_next_request(emulator, caller):
    emulator.trouble("drop", method="GET", path="/v2/user")
    with pytest.raises(requests.ConnectionError):
        caller.get("/user")
    assert caller.get("/user").status_code == 200
