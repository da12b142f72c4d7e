from __future__ import annotations

import hashlib
import re

import pytest

from airflow_sb_provider.emulator.seed import BAM, VCF
from tests.unit.emulator.conftest import Caller, code, eventually, export_body


def test_an_accepted_export_has_the_documented_fields(emulator, caller):
    emulator.knobs.stuck = True
    answer = caller.export(overwrite=False)
    job = answer.json()
    assert answer.status_code == 200
    assert re.fullmatch("[A-Za-z0-9]{32}", job["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", job.pop("started_on"))
    assert job == {
        "href": f"{emulator.url}/storage/exports/{job['id']}",
        "id": job["id"],
        "state": "PENDING",
        "source": {"file": VCF},
        "destination": {"volume": "demo/results", "location": "out.vcf"},
        "properties": {"sse_algorithm": "AES256"},
        "overwrite": False,
    }


def test_a_move_makes_the_file_an_alias_of_the_object(emulator, caller):
    before = caller.get(f"/files/{VCF}").json()
    job = caller.ended(caller.export())
    assert job["state"] == "COMPLETED"
    assert "error" not in job
    assert job["finished_on"] >= job["started_on"]
    after = caller.get(f"/files/{VCF}").json()
    assert job["result"] == after
    assert before["storage"]["type"] == "PLATFORM"
    assert after["storage"] == {"type": "VOLUME", "volume": "demo/results", "location": "out.vcf"}
    assert after["id"] == before["id"]
    assert len(emulator.object_bytes("demo/results", "out.vcf")) == before["size"]
    with pytest.raises(FileNotFoundError):
        emulator.platform.storage.read_source(VCF)
    assert code(caller.export(location="again.vcf")) == (403, 9006)


def test_a_copy_leaves_the_file(emulator, caller):
    before = caller.get(f"/files/{VCF}").json()
    job = caller.ended(caller.export(copy_only="True"))
    assert job["state"] == "COMPLETED"
    assert "copy_only" not in job
    assert caller.get(f"/files/{VCF}").json() == before
    assert emulator.platform.storage.read_source(VCF) == emulator.object_bytes("demo/results", "out.vcf")
    assert caller.ended(caller.export(location="again.vcf"))["state"] == "COMPLETED"


def test_the_object_is_below_the_volumes_prefix_with_its_size_and_etag(emulator, caller):
    data = b"some bytes"
    file = emulator.add_file("x.txt", data)
    caller.ended(caller.export(file.id, "deep/x.txt"))
    assert emulator.platform.storage.read("demo-results", "exports/deep/x.txt") == data
    found = caller.get("/storage/volumes/demo/results/object", params={"location": "deep/x.txt"}).json()
    assert found["location"] == "deep/x.txt"
    assert found["metadata"]["bucket"] == "demo-results"
    assert found["metadata"]["size"] == len(data)
    assert found["metadata"]["etag"] == hashlib.md5(data).hexdigest()


def test_only_overwrite_replaces_the_object(emulator, caller):
    emulator.put_object("demo/results", "out.vcf", b"old")
    assert code(caller.export()) == (409, 9107)
    assert emulator.object_bytes("demo/results", "out.vcf") == b"old"
    assert caller.ended(caller.export(overwrite=True))["state"] == "COMPLETED"
    assert emulator.object_bytes("demo/results", "out.vcf").startswith(b"##fileformat")


def test_overwrite_in_the_body_takes_precedence_over_the_query(emulator, caller):
    emulator.put_object("demo/results", "out.vcf", b"old")
    path = "/storage/exports?overwrite=true&copy_only=true"
    assert code(caller.post(path, export_body(overwrite=False))) == (409, 9107)
    assert caller.ended(caller.post(path, export_body()))["state"] == "COMPLETED"


def test_the_second_of_two_overwriting_moves_destroys_the_object(emulator, caller):
    """The second job deletes the object before it detects that the file has no copy on the Platform."""
    emulator.knobs.stuck = True
    first, second = caller.export(overwrite=True), caller.export(overwrite=True)
    emulator.platform.exports[second.json()["id"]].held = "PENDING"
    emulator.knobs.stuck = False
    assert caller.ended(first)["state"] == "COMPLETED"
    assert emulator.object_bytes("demo/results", "out.vcf")
    emulator.release(second.json()["id"])
    failed = caller.ended(second)
    assert failed["state"] == "FAILED"
    assert failed["error"]["code"] == 9006
    assert "result" not in failed
    with pytest.raises(FileNotFoundError):
        emulator.object_bytes("demo/results", "out.vcf")


def test_two_jobs_for_one_location_make_one_object(emulator, caller):
    emulator.knobs.stuck = True
    jobs = [caller.export(VCF), caller.export(BAM)]
    emulator.knobs.stuck = False
    ends = [caller.ended(job) for job in jobs]
    assert sorted(end["state"] for end in ends) == ["COMPLETED", "FAILED"]
    loser = next(end for end in ends if end["state"] == "FAILED")
    assert loser["error"]["code"] == 9107
    assert caller.get(f"/files/{loser['source']['file']}").json()["storage"]["type"] == "PLATFORM"


def test_a_volume_that_becomes_read_only_fails_the_pending_job(emulator, caller):
    emulator.knobs.stuck = True
    started = caller.export()
    emulator.platform.volumes["demo/results"].access_mode = "RO"
    emulator.knobs.stuck = False
    assert caller.ended(started)["error"]["code"] == 9101


def test_a_job_goes_through_its_states(emulator, caller):
    emulator.knobs.update(pending_seconds=0.05, running_seconds=0.05)
    started = caller.export()
    seen = [started.json()["state"]]

    def ended() -> bool:
        job = caller.get(f"/storage/exports/{started.json()['id']}").json()
        if job["state"] != seen[-1]:
            seen.append(job["state"])
        assert ("finished_on" in job) == ("result" in job) == (job["state"] == "COMPLETED")
        return "finished_on" in job

    eventually(ended)
    assert seen == ["PENDING", "RUNNING", "COMPLETED"]


def test_bulk_keeps_the_order_and_mixes_jobs_and_errors(emulator, caller):
    items = [export_body(VCF, "1"), export_body("5f0000000000000000000099", "2"), export_body(BAM, "3", properties={})]
    answer = caller.post("/bulk/storage/exports/create?copy_only=False", {"items": items})
    assert answer.status_code == 200
    first, second, third = answer.json()["items"]
    assert first["resource"]["source"]["file"] == VCF
    assert (second["error"]["status"], second["error"]["code"]) == (404, 9009)
    assert third["resource"]["destination"]["location"] == "3"
    assert emulator.requests[-1].exports == [first["resource"]["id"], third["resource"]["id"]]
    for each in (first, third):
        caller.ended(each["resource"]["id"])
    ids = [third["resource"]["id"], "x" * 32, first["resource"]["id"]]
    for path in ("/bulk/storage/exports/get", "/bulk/storage/export/get"):
        found = caller.post(path, {"export_ids": ids}).json()["items"]
        assert [each.get("resource", {}).get("id") for each in found] == [ids[0], None, ids[2]]
        assert found[1]["error"]["code"] == 9008
        assert found[0]["resource"]["result"]["storage"]["type"] == "VOLUME"


def test_bulk_accepts_at_most_a_hundred_items(emulator, caller):
    emulator.knobs.stuck = True
    items = [export_body(VCF, str(number)) for number in range(101)]
    assert code(caller.post("/bulk/storage/exports/create", {"items": items})) == (400, 9011)
    assert emulator.exports == []
    answer = caller.post("/bulk/storage/exports/create?copy_only=true", {"items": items[:100]})
    assert [each["resource"]["destination"]["location"] for each in answer.json()["items"]] == list(
        map(str, range(100))
    )
    ids = [job.id for job in emulator.exports]
    assert code(caller.post("/bulk/storage/exports/get", {"export_ids": [*ids, ids[0]]})) == (400, 9011)


def test_the_list_is_brief_filtered_and_shows_only_the_users_jobs(emulator, caller):
    other = Caller(emulator, emulator.add_token("other"))
    done = caller.ended(caller.export(VCF, "1", copy_only="true"))["id"]
    archived = caller.ended(caller.export(VCF, "2", "demo/archive", copy_only="true"))["id"]
    emulator.knobs.stuck = True
    waiting = caller.export(BAM, "3").json()["id"]
    foreign = other.export(BAM, "4").json()["id"]
    listed = caller.get("/storage/exports")
    assert listed.headers["X-Total-Matching-Query"] == "3"
    assert [item["id"] for item in listed.json()["items"]] == [waiting, archived, done]
    assert {frozenset(item) for item in listed.json()["items"]} == {frozenset(("href", "id", "state"))}

    def ids(**query: object) -> list[str]:
        return [item["id"] for item in caller.get("/storage/exports", params=query).json()["items"]]

    assert ids(state="PENDING") == [waiting]
    assert ids(state=["PENDING", "COMPLETED"]) == [waiting, archived, done]
    assert ids(volume="demo/archive") == [archived]
    assert [item["id"] for item in other.get("/storage/exports").json()["items"]] == [foreign]
    assert code(caller.get(f"/storage/exports/{foreign}")) == (403, 9005)
    assert code(caller.get(f"/storage/exports/{'x' * 32}")) == (404, 9008)
    whole = caller.get("/storage/exports", params={"fields": "_all"}).json()["items"][0]
    assert whole == caller.get(f"/storage/exports/{waiting}").json()


def test_imports_are_listed_brief_filtered_and_only_to_their_user(emulator, caller):
    emulator.put_object("demo/results", "a/b.txt", b"bytes")
    emulator.put_object("demo/archive", "c.txt", b"")
    emulator.add_token("other")
    first = emulator.add_import("demo/results", "a/b.txt")
    second = emulator.add_import("demo/archive", "c.txt", project="demo/more", name="c")
    foreign = emulator.add_import("demo/results", "a/b.txt", name="theirs", username="other")

    def ids(**query: object) -> list[str]:
        return [item["id"] for item in caller.get("/storage/imports", params=query).json()["items"]]

    listed = caller.get("/storage/imports")
    assert listed.headers["X-Total-Matching-Query"] == "2"
    assert {frozenset(item) for item in listed.json()["items"]} == {frozenset(("href", "id", "state"))}
    assert ids() == [second.id, first.id]
    assert ids(volume="demo/results") == [first.id]
    assert ids(project="demo/more") == [second.id]
    assert ids(state="PENDING") == []
    assert ids(state=["PENDING", "COMPLETED"], limit=1) == [second.id]
    assert code(caller.get(f"/storage/imports/{foreign.id}")) == (403, 9005)
    assert code(caller.get(f"/storage/imports/{'x' * 32}")) == (404, 9008)
    [whole] = caller.get("/storage/imports", params={"fields": "_all", "volume": "demo/results"}).json()["items"]
    assert whole == caller.get(f"/storage/imports/{first.id}").json()
    assert whole["source"] == {"volume": "demo/results", "location": "a/b.txt"}
    assert whole["result"]["storage"] == {"type": "VOLUME", "volume": "demo/results", "location": "a/b.txt"}
    assert (whole["result"]["name"], whole["result"]["size"]) == ("b.txt", 5)
    assert emulator.object_bytes("demo/results", "a/b.txt") == b"bytes"


def test_paging_keeps_every_parameter(emulator, caller):
    emulator.knobs.stuck = True
    for number in range(5):
        caller.export(location=f"{number}", copy_only="true")
    query = "?volume=demo/results&state=PENDING&state=RUNNING&fields=id,destination.location&limit=2"
    page = caller.get(f"/storage/exports{query}").json()
    seen = [page["items"]]
    while onward := [link["href"] for link in page["links"] if link["rel"] == "next"]:
        assert onward[0].startswith(f"{emulator.url}/storage/exports?")
        page = caller.session.get(onward[0]).json()
        for part in ("volume=demo/results", "state=PENDING&state=RUNNING", "fields=", "limit=2"):
            assert part in page["href"]
        seen.append(page["items"])
    assert [[item["destination"]["location"] for item in items] for items in seen] == [["4", "3"], ["2", "1"], ["0"]]
    assert set(seen[0][0]) == {"id", "destination"}
    assert [link["rel"] for link in page["links"]] == ["prev"]


def test_callbacks_and_the_log_have_the_user(emulator, caller):
    events = []
    emulator.on("request", lambda record: events.append(("request", record.path, list(record.exports))))
    emulator.on("accepted", lambda record: events.append(("accepted", record.path, list(record.exports))))
    job = caller.export().json()["id"]
    assert events == [("request", "/v2/storage/exports", []), ("accepted", "/v2/storage/exports", [job])]
    record = emulator.requests[-1]
    assert (record.method, record.status, record.username) == ("POST", 200, "demo")
    assert record.json["source"] == {"file": VCF}
    assert record.headers["X-SBG-Auth-Token"] == emulator.token
    assert record.peer[0] == "127.0.0.1"
    assert record.peer[1] > 0


def test_a_callback_can_cut_the_connection(emulator, caller):
    import requests

    verdicts = {"request": False, "accepted": True}
    emulator.on("request", lambda record: verdicts["request"])
    emulator.on("accepted", lambda record: verdicts["accepted"])
    with pytest.raises(requests.ConnectionError):
        caller.export()
    assert emulator.exports == []
    verdicts.update(request=True, accepted=False)
    with pytest.raises(requests.ConnectionError):
        caller.export()
    assert [job.reply_lost for job in emulator.exports] == [True]
