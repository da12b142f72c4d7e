from __future__ import annotations

import pytest

from airflow_sb_provider.emulator.errors import CODES, ApiError
from airflow_sb_provider.emulator.seed import ALIGNMENTS, READONLY, REFERENCE, VCF
from tests.unit.emulator.conftest import Caller, code, export_body

UNKNOWN = "5f0000000000000000000099"


@pytest.mark.parametrize(
    ("body", "rejection"),
    [
        (export_body(UNKNOWN), (404, 9009)),
        (export_body(volume="demo/nowhere"), (404, 9007)),
        (export_body(volume=READONLY), (403, 9026)),
        (export_body(REFERENCE), (403, 9006)),
        (export_body(ALIGNMENTS), (403, 9006)),
        (export_body(location="folder/"), (400, 9072)),
        (export_body(location=""), (400, 9011)),
        (export_body(file=""), (400, 9011)),
        (export_body(location=7), (400, 9011)),
        (export_body(overwrite="true"), (400, 9011)),
        (export_body(properties=["AES256"]), (400, 9011)),
        ({"source": {"file": VCF}}, (400, 9011)),
        ({"source": VCF, "destination": "demo/results"}, (400, 9011)),
        ([], (400, 9011)),
        (export_body(properties={"sse_algorithm": "AES512"}), (400, 9023)),
        (export_body(properties={"aws_canned_acl": "everybody"}), (400, 9022)),
        (export_body(properties={"aws_storage_class": "ICE"}), (400, 9024)),
        (export_body(properties={"sse_aws_kms_key_id": 1}), (400, 9011)),
    ],
)
def test_rejected_submissions(emulator, caller, body, rejection):
    assert code(caller.post("/storage/exports", body)) == rejection
    assert emulator.exports == []
    if isinstance(body, dict):
        item = caller.post("/bulk/storage/exports/create", {"items": [body]}).json()["items"][0]
        assert (item["error"]["status"], item["error"]["code"]) == rejection


@pytest.mark.parametrize(
    "properties",
    [
        {"sse_algorithm": None},
        {"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "alias/exports"},
        {"aws_canned_acl": "bucket-owner-full-control", "aws_storage_class": "GLACIER"},
    ],
)
def test_documented_properties_are_accepted_and_shown(caller, properties):
    job = caller.export(properties=properties).json()
    assert job["properties"] == {"sse_algorithm": "AES256", **properties}


def test_submissions_that_the_state_of_the_platform_forbids(emulator, caller):
    emulator.add_volume("demo/off", active=False)
    emulator.add_volume("demo/google", service_type="GCS")
    emulator.add_volume("demo/oregon", region="us-west-2")
    archived = emulator.add_file("old.bam", b"x", archived=True)
    alias = emulator.add_file("there.bam", b"x", alias=("demo/archive", "there.bam"))
    assert code(caller.export(volume="demo/off")) == (409, 9069)
    assert code(caller.export(volume="demo/google")) == (403, 9027)
    assert code(caller.export(volume="demo/oregon")) == (403, 9027)
    assert code(caller.export(archived.id)) == (403, 9006)
    assert code(caller.export(alias.id)) == (403, 9006)
    assert code(caller.export(location="there.bam", volume="demo/archive")) == (409, 9107)
    google = emulator.add_file("g.vcf", b"x", hosted_on=("google:us-west1",))
    assert caller.ended(caller.export(google.id, volume="demo/google"))["state"] == "COMPLETED"


def test_what_another_user_may_not_read(emulator, caller):
    job = caller.export().json()["id"]
    stranger = Caller(emulator, emulator.add_token("stranger", access="none"))
    assert code(stranger.export()) == (403, 9020)
    assert code(stranger.get(f"/files/{VCF}")) == (403, 5001)
    assert code(stranger.get("/files?project=demo/genomics")) == (403, 3001)
    assert code(stranger.get("/storage/volumes/demo/results")) == (403, 9020)
    assert code(stranger.get(f"/storage/exports/{job}")) == (403, 9005)
    assert stranger.get("/storage/volumes").json()["items"] == []
    assert stranger.get("/projects").json()["items"] == []
    reader = Caller(emulator, emulator.add_token("reader", access="read"))
    assert reader.get("/storage/volumes/demo/results").status_code == 200
    assert code(reader.export()) == (403, 9020)


def test_a_single_file_can_be_forbidden(emulator, caller):
    emulator.platform.files[VCF].forbidden = True
    assert code(caller.export()) == (403, 9004)
    assert code(caller.get(f"/files/{VCF}")) == (403, 5001)


def test_bodies_that_are_not_json(emulator, caller):
    headers = {"X-SBG-Auth-Token": emulator.token}
    post = caller.session.post
    url = f"{emulator.url}/storage/exports"
    broken = post(url, data="{", headers={**headers, "Content-Type": "application/json"})
    assert code(broken) == (400, 9011)
    assert code(post(url, data={"a": "b"}, headers=headers)) == (415, 90008)
    assert code(caller.post("/storage/exports?copy_only=maybe", export_body())) == (400, 9011)
    assert code(caller.post("/bulk/storage/exports/create", {"items": []})) == (400, 9011)


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-SBG-Auth-Token": "f" * 32}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic abc"}],
)
def test_a_missing_or_wrong_token(emulator, caller, headers):
    caller.session.headers.pop("X-SBG-Auth-Token")
    answer = caller.get("/user", headers=headers)
    assert code(answer) == (401, 90001)
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("number", sorted(CODES))
def test_every_documented_code_can_be_provoked(emulator, caller, number):
    emulator.trouble("error", code=number)
    answer = caller.export()
    assert code(answer) == (CODES[number][0], number)
    assert answer.json()["message"] == CODES[number][1]
    assert emulator.exports == []
    emulator.trouble("job_fails", code=number)
    failed = caller.ended(caller.export())
    assert failed["error"] == ApiError(failed["error"]["code"]).as_json()
