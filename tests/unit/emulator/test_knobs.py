from __future__ import annotations

import dataclasses
import re
import time
from types import SimpleNamespace

import pytest
import requests

from airflow_sb_provider.emulator import Knobs
from airflow_sb_provider.emulator.seed import ALIGNMENTS, BAM, REFERENCE, VCF
from tests.unit.emulator.conftest import code, eventually, export_body


def test_lists_of_a_volume_may_show_all_levels(emulator, caller):
    for location in ("a.txt", "b/1.txt", "b/c/2.txt"):
        emulator.put_object("demo/results", location, b"x")
    emulator.knobs.volume_list_recursive = True
    page = caller.get("/storage/volumes/demo/results/list?limit=2").json()
    assert ([item["location"] for item in page["items"]], page["prefixes"]) == (["a.txt", "b/1.txt"], [])
    below = caller.session.get(page["links"][0]["next"]).json()
    assert ([item["location"] for item in below["items"]], below["links"]) == (["b/c/2.txt"], [])


def test_every_knob_is_described():
    assert set(Knobs.descriptions()) == {field.name for field in dataclasses.fields(Knobs)}


def test_text_is_converted_and_wrong_values_are_rejected():
    knobs = Knobs()
    knobs.update(stuck="on", rate_limit="7", latency="0.5", created_status="201", omit="started_on, result")
    assert (knobs.stuck, knobs.rate_limit, knobs.latency, knobs.created_status) == (True, 7, 0.5, 201)
    assert knobs.omit == {"started_on", "result"}
    for wrong in ({"stuck": "maybe"}, {"rate_limit": "many"}, {"list_order": "random"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            knobs.update(latency=9, **wrong)
    assert knobs.latency == 0.5
    with pytest.raises(AttributeError, match="rate_limt"):
        knobs.rate_limt = 3


def test_knobs_from_one_text():
    knobs = Knobs.from_text("stuck=true, running_seconds=0.5,omit=started_on,result ,rate_limit=7")
    assert (knobs.stuck, knobs.running_seconds, knobs.rate_limit) == (True, 0.5, 7)
    assert knobs.omit == {"started_on", "result"}
    assert Knobs.from_text(" ") == Knobs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stuck=true,runing_seconds=3", "unknown knob 'runing_seconds'; did you mean 'running_seconds'?"),
        ("nonsense=1", "unknown knob 'nonsense'; known are pending_seconds"),
        ("stuck=perhaps", "knob stuck: 'perhaps' is not bool"),
        ("list_order=random", "knob list_order: 'random' is not newest | oldest | shuffled"),
        ("stuck", "'stuck' has no value; write name=value,name=value"),
    ],
)
def test_a_wrong_knob_is_named(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Knobs.from_text(text)


def test_the_rate_limit(emulator, caller, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("airflow_sb_provider.emulator.rate_limit.time", SimpleNamespace(time=lambda: now[0]))
    emulator.knobs.update(rate_limit=2, rate_window=1)
    assert [caller.get("/user").status_code for _ in range(2)] == [200, 200]
    rejected = caller.get("/user")
    assert code(rejected) == (429, 1000)
    assert rejected.headers["X-RateLimit-Remaining"] == "0"
    assert caller.get("/rate_limit").status_code == 200
    now[0] = float(rejected.headers["X-RateLimit-Reset"])
    assert caller.get("/user").status_code == 200


@pytest.mark.parametrize(("cost", "remaining"), [("call", "9"), ("items", "7")])
def test_bulk_cost(emulator, caller, cost, remaining):
    emulator.knobs.update(rate_limit=10, bulk_cost=cost)
    answer = caller.post("/bulk/files/get", {"file_ids": [VCF, BAM, ALIGNMENTS]})
    assert answer.headers["X-RateLimit-Remaining"] == remaining


def test_maintenance(emulator, caller):
    emulator.knobs.maintenance = True
    assert code(caller.get("/user")) == (503, 0)
    assert code(caller.export()) == (503, 0)
    emulator.knobs.maintenance = False
    assert caller.get("/user").status_code == 200


def test_offline(emulator, caller):
    emulator.knobs.offline = True
    with pytest.raises(requests.ConnectionError):
        caller.get("/user")
    assert emulator.requests[-1].status is None
    emulator.knobs.offline = False
    assert caller.get("/user").status_code == 200


def test_latency(emulator, caller):
    emulator.knobs.latency = 0.1
    began = time.monotonic()
    caller.get("/user")
    assert time.monotonic() - began >= 0.1


def test_durations_apply_to_jobs_that_already_wait(emulator, caller):
    emulator.knobs.update(pending_seconds=1000, running_seconds=1000)
    started = caller.export()
    job = emulator.platform.exports[started.json()["id"]]
    assert job.state == "PENDING"
    emulator.knobs.pending_seconds = 0
    eventually(lambda: job.state == "RUNNING")
    emulator.knobs.running_seconds = 0
    assert caller.ended(started)["state"] == "COMPLETED"


def test_max_running(emulator, caller):
    emulator.knobs.update(max_running=1, running_seconds=1000)
    jobs = [caller.export(file, file) for file in (VCF, BAM)]

    def states() -> list[str]:
        return sorted(job.state for job in emulator.exports)

    eventually(lambda: states() == ["PENDING", "RUNNING"])
    emulator.knobs.running_seconds = 0
    for job in jobs:
        assert caller.ended(job)["state"] == "COMPLETED"


def test_instant(emulator, caller):
    emulator.knobs.update(instant=True, pending_seconds=0.02, running_seconds=0.02)
    assert caller.export().json()["state"] == "COMPLETED"


def test_retention(emulator, caller):
    job = caller.ended(caller.export())["id"]
    emulator.knobs.retention_seconds = 0.001
    eventually(lambda: caller.get(f"/storage/exports/{job}").status_code == 404)
    assert caller.get("/storage/exports").json()["items"] == []


def test_refuse_in_job(emulator, caller):
    emulator.knobs.refuse_in_job = True
    emulator.put_object("demo/results", "taken", b"old")
    emulator.add_volume("demo/off", active=False)
    for body, expected in (
        (export_body(REFERENCE), 9006),
        (export_body(volume="demo/readonly"), 9101),
        (export_body(volume="demo/off"), 9069),
        (export_body(location="taken"), 9107),
    ):
        assert caller.ended(caller.post("/storage/exports", body))["error"]["code"] == expected


def test_refuse_busy_file(emulator, caller):
    emulator.knobs.update(stuck=True, refuse_busy_file=True)
    caller.export(location="1", copy_only="true")
    assert caller.export(location="2").status_code == 200
    assert code(caller.export(location="3")) == (403, 9006)
    assert caller.export(location="4", copy_only="true").status_code == 200


@pytest.mark.parametrize("dangerous", [True, False])
def test_delete_before_check(emulator, caller, dangerous):
    emulator.knobs.update(refuse_in_job=True, delete_before_check=dangerous)
    emulator.put_object("demo/results", "out.vcf", b"only copy")
    assert caller.ended(caller.export(REFERENCE, overwrite=True))["error"]["code"] == 9006
    volume = emulator.platform.volumes["demo/results"]
    left = emulator.platform.storage.stat(volume.bucket, "exports/out.vcf")
    assert (left is None) is dangerous


@pytest.mark.parametrize("copy_only", ["true", "false"])
def test_overwrite_denied(emulator, caller, copy_only):
    emulator.knobs.overwrite_denied = True
    emulator.put_object("demo/results", "out.vcf", b"locked")
    assert caller.ended(caller.export(overwrite=True, copy_only=copy_only))["error"]["code"] == 9107
    assert emulator.object_bytes("demo/results", "out.vcf") == b"locked"
    assert emulator.platform.storage.read_source(VCF)
    assert caller.ended(caller.export(location="free", overwrite=True))["state"] == "COMPLETED"


@pytest.mark.parametrize("copy_only", ["true", "false"])
def test_overwrite_deletes_first(emulator, caller, copy_only):
    alias = emulator.add_file("only.bam", b"only copy", alias=("demo/results", "only.bam"))
    again = {"file": alias.id, "location": "only.bam", "overwrite": True, "copy_only": copy_only}
    assert code(caller.export(**again)) == (403, 9006)
    emulator.knobs.overwrite_deletes_first = True
    assert caller.ended(caller.export(**again))["error"]["code"] == 9006
    with pytest.raises(FileNotFoundError):
        emulator.object_bytes("demo/results", "only.bam")
    assert caller.ended(caller.export(overwrite=True))["state"] == "COMPLETED"


@pytest.mark.parametrize(("included", "location"), [(True, "exports/out.vcf"), (False, "out.vcf")])
def test_alias_location_includes_prefix(emulator, caller, included, location):
    emulator.knobs.alias_location_includes_prefix = included
    caller.ended(caller.export())
    assert caller.get(f"/files/{VCF}").json()["storage"]["location"] == location


@pytest.mark.parametrize(
    ("prefix", "joined", "key"),
    [("p", True, "p/x"), ("p/", True, "p/x"), ("p", False, "px"), ("p/", False, "p/x"), ("", True, "x")],
)
def test_prefix_joined_with_slash(emulator, caller, prefix, joined, key):
    emulator.knobs.prefix_joined_with_slash = joined
    emulator.add_volume("demo/joined", "joined", prefix=prefix)
    caller.ended(caller.export(location="x", volume="demo/joined"))
    assert [each.key for each in emulator.platform.storage.list("joined")] == [key]


def test_leading_slash(emulator, caller):
    def keys_after(choice: str) -> list[str]:
        emulator.knobs.leading_slash = choice
        caller.ended(caller.export(location=f"/{choice}", volume="demo/archive", copy_only="true"))
        return [each.key for each in emulator.platform.storage.list("demo-archive")]

    assert keys_after("keep") == ["/keep"]
    assert keys_after("strip") == ["/keep", "strip"]
    emulator.knobs.leading_slash = "refuse"
    assert code(caller.export(location="/x")) == (400, 9011)


def test_list_order(emulator, caller):
    emulator.knobs.stuck = True
    started = [caller.export(location=str(number), copy_only="true").json()["id"] for number in range(12)]

    def listed(order: str) -> list[str]:
        emulator.knobs.list_order = order
        return [item["id"] for item in caller.get("/storage/exports").json()["items"]]

    assert listed("oldest") == started
    assert listed("newest") == started[::-1]
    shuffled = [listed("shuffled") for _ in range(3)]
    assert all(sorted(each) == sorted(started) for each in shuffled)
    assert any(each not in (started, started[::-1]) for each in shuffled)


def test_spellings(emulator, caller):
    emulator.knobs.update(
        service_type_case="lower", timestamp_style="offset", code_type="str", created_status=201, etag_style="quoted"
    )
    assert caller.get("/storage/volumes/demo/results").json()["service"]["type"] == "s3"
    started = caller.export()
    assert started.status_code == 201
    assert started.json()["started_on"].endswith("+02:00")
    rejected = caller.get("/storage/exports/nothing").json()
    assert (rejected["status"], rejected["code"]) == ("404", "9008")
    caller.ended(started)
    path = "/storage/volumes/demo/results/object?location=out.vcf"
    assert caller.get(path).json()["metadata"]["etag"].startswith('"')
    emulator.knobs.etag_style = "multipart"
    assert caller.get(path).json()["metadata"]["etag"].endswith("-2")


def test_omitted_fields(emulator, caller):
    emulator.knobs.update(omit={"started_on", "export.result", "file.parent"}, echo_properties=False)
    job = caller.ended(caller.export())
    assert not {"started_on", "result", "properties"} & set(job)
    assert "parent" not in caller.get(f"/files/{VCF}").json()


def test_result_in_copy(emulator, caller):
    emulator.knobs.result_in_copy = False
    assert "result" not in caller.ended(caller.export(copy_only="true"))
    assert "result" in caller.ended(caller.export(location="moved"))


def test_unauthorized_body(emulator, caller):
    caller.session.headers["X-SBG-Auth-Token"] = "wrong"
    emulator.knobs.unauthorized_body = "router"
    assert caller.get("/user").json() == {"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}
    emulator.knobs.unauthorized_body = "empty"
    answer = caller.get("/user")
    assert (answer.status_code, answer.text) == (401, "")


def test_undocumented_error_codes(emulator, caller):
    emulator.knobs.update(too_many_items_code=90000, folder_export_code=9009, region_mismatch_code=9028)
    emulator.add_volume("demo/oregon", region="us-west-2")
    assert code(caller.post("/bulk/files/get", {"file_ids": [VCF] * 101}))[1] == 90000
    assert code(caller.export(ALIGNMENTS))[1] == 9009
    assert code(caller.export(volume="demo/oregon"))[1] == 9028


def test_over_limit(emulator, caller):
    assert "limit=100&" in caller.get("/storage/exports?limit=1000").json()["href"]
    emulator.knobs.over_limit = "refuse"
    assert code(caller.get("/storage/exports?limit=1000")) == (400, 90000)
