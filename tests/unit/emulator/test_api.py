from __future__ import annotations

import time

import pytest
import requests

from airflow_sb_provider.emulator.seed import ALIGNMENTS, BAM, BAM_INDEX, REFERENCE, REPORTS, ROOT_FOLDER, VCF
from tests.unit.emulator.conftest import code

TASK = "0d0e6f3c-5b1e-4f6a-9a6e-000000000001"


def test_the_links_need_no_token(emulator, caller):
    caller.session.headers.pop("X-SBG-Auth-Token")
    links = caller.get("").json()
    assert links == caller.session.get(emulator.url.removesuffix("v2")).json()
    assert links["rate_limit_url"] == f"{emulator.url}/rate_limit"
    assert links["storage_url"] == f"{emulator.url}/storage"


def test_the_user(emulator, caller):
    assert caller.get("/user").json()["username"] == "demo"
    caller.session.headers.pop("X-SBG-Auth-Token")
    bearer = {"Authorization": f"Bearer {emulator.add_token('grace')}"}
    assert caller.get("/user", headers=bearer).json()["username"] == "grace"


def test_every_response_has_the_rate_limit_and_reading_it_is_free(emulator, caller):
    first, second = caller.get("/user"), caller.get("/storage/exports/nothing")
    assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == ("1000", "999")
    assert second.headers["X-RateLimit-Remaining"] == "998"
    assert 0 < int(second.headers["X-RateLimit-Reset"]) - time.time() <= 301
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
    for _ in range(2):
        rate = caller.get("/rate_limit").json()
        assert rate["rate"] == {"limit": 1000, "remaining": 998, "reset": int(second.headers["X-RateLimit-Reset"])}
        assert rate["instance_limit"]["remaining"] == 2**63 - 1


def test_an_unknown_path_is_404(caller):
    answer = caller.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json() == {"status": "NOT_FOUND", "message": "HTTP 404 Not Found"}
    assert caller.session.delete(answer.url.replace("nowhere", "user"), json={}).status_code == 405


def test_a_get_may_have_a_body(emulator, caller):
    answer = caller.get("/user", data="null", headers={"Content-Type": "application/json"})
    assert answer.json()["username"] == "demo"


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["X-Total-Matching-Query"]) >= len(answer.json()["items"])
    return [item["name"] for item in answer.json()["items"]]


def test_files_of_a_project_are_listed_one_level_at_a_time(caller):
    top = ["alignments", "reports", "NA12878.vcf", "GRCh38.chr20.intervals"]
    assert names(caller.get("/files?project=demo/genomics")) == top
    assert names(caller.get(f"/files?parent={ROOT_FOLDER}")) == top
    assert names(caller.get(f"/files?parent={ALIGNMENTS}")) == ["NA12878.bam", "NA12878.bam.bai"]
    assert names(caller.get(f"/files/{ALIGNMENTS}/list")) == ["NA12878.bam", "NA12878.bam.bai"]
    brief = caller.get("/files?project=demo/genomics").json()["items"][0]
    assert set(brief) == {"href", "id", "name", "project", "parent", "type"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=NA12878.bam", ["NA12878.bam"]),
        ("name=NA12878.bam&name=NA12878.bam.bai", ["NA12878.bam", "NA12878.bam.bai"]),
        ("tag=alignment", ["NA12878.bam"]),
        ("tag=nothing", []),
        ("metadata.sample_id=NA12878&name=NA12878.bam.bai", ["NA12878.bam.bai"]),
        ("metadata.sample_id=other&metadata.sample_id=NA12878", ["NA12878.bam", "NA12878.bam.bai"]),
        ("metadata.sample_id=NA12878&metadata.reference_genome=hg19", []),
        (f"origin.task={TASK}", ["NA12878.bam"]),
    ],
)
def test_file_filters(caller, query, found):
    assert names(caller.get(f"/files?parent={ALIGNMENTS}&{query}")) == found


def test_one_file_and_one_folder(emulator, caller):
    file = caller.get(f"/files/{VCF}").json()
    assert file["href"] == f"{emulator.url}/files/{VCF}"
    assert (file["type"], file["project"], file["parent"]) == ("file", "demo/genomics", ROOT_FOLDER)
    assert file["storage"] == {"type": "PLATFORM", "hosted_on_locations": ["aws:us-east-1"]}
    assert file["origin"] == {"task": TASK}
    folder = caller.get(f"/files/{REPORTS}").json()
    assert folder["type"] == "folder"
    assert not {"size", "storage", "metadata"} & set(folder)
    chosen = caller.get(f"/files/{VCF}?fields=id,metadata.sample_id,storage").json()
    assert chosen == {"id": VCF, "metadata": {"sample_id": "NA12878"}, "storage": file["storage"]}
    assert "storage" not in caller.get(f"/files/{VCF}?fields=!storage,!id").json()
    assert caller.get(f"/files/{VCF}?fields=_all").json() == file


def test_files_in_bulk(caller):
    found = caller.post("/bulk/files/get", {"file_ids": [BAM, "0" * 24, BAM_INDEX]}).json()["items"]
    assert [each.get("resource", {}).get("name") for each in found] == ["NA12878.bam", None, "NA12878.bam.bai"]
    assert found[1]["error"]["code"] == 5002


@pytest.mark.parametrize(
    ("path", "rejection"),
    [
        ("/files", (400, 5029)),
        (f"/files?project=demo/genomics&parent={ALIGNMENTS}", (400, 5031)),
        ("/files?project=genomics", (400, 5005)),
        ("/files?project=demo/nothing", (404, 3002)),
        (f"/files?parent={VCF}", (400, 5022)),
        ("/files/000000000000000000000000", (404, 5002)),
        ("/projects/demo/nothing", (404, 3002)),
        ("/storage/volumes/demo/nothing", (404, 9007)),
        ("/storage/volumes/demo/results/object?location=nothing", (404, 9105)),
        ("/storage/volumes/demo/results/object", (400, 9011)),
        ("/storage/exports?limit=0", (400, 90000)),
        ("/storage/exports?offset=-1", (400, 90000)),
    ],
)
def test_rejected_reads(caller, path, rejection):
    assert code(caller.get(path)) == rejection


def test_projects(caller):
    assert names(caller.get("/projects")) == ["genomics"]
    assert caller.get("/projects/demo/genomics").json()["root_folder"] == ROOT_FOLDER


def test_volumes(emulator, caller):
    listed = caller.get("/storage/volumes")
    assert names(listed) == ["results", "archive", "readonly"]
    assert set(listed.json()["items"][0]) == {"href", "id", "name"}
    volume = caller.get("/storage/volumes/demo/results").json()
    assert (volume["id"], volume["access_mode"], volume["active"]) == ("demo/results", "RW", True)
    assert volume["service"]["type"] == "S3"
    assert volume["service"]["prefix"] == "exports"
    assert caller.get("/storage/volumes/demo/readonly").json()["access_mode"] == "RO"
    emulator.add_volume("some.division@x/out", bucket="elsewhere")
    assert caller.get("/storage/volumes/some.division%40x/out").json()["service"]["bucket"] == "elsewhere"


def test_an_inactive_volume_cannot_be_read(emulator, caller):
    emulator.platform.volumes["demo/results"].active = False
    assert code(caller.get("/storage/volumes/demo/results/list")) == (409, 9069)
    assert code(caller.get("/storage/volumes/demo/results/object?location=x")) == (409, 9069)
    assert caller.get("/storage/volumes/demo/results").json()["active"] is False


@pytest.mark.parametrize("volume", ["demo/results", "demo/archive"])
def test_the_contents_of_a_volume(emulator, caller, volume):
    for location in ("a.txt", "b/1.txt", "b/2.txt", "c.txt"):
        emulator.put_object(volume, location, location.encode())
    page = caller.get(f"/storage/volumes/{volume}/list").json()
    assert [item["location"] for item in page["items"]] == ["a.txt", "c.txt"]
    assert [item["prefix"] for item in page["prefixes"]] == ["b/"]
    assert (page["truncated"], page["links"]) == (False, [])
    assert page["items"][0]["metadata"]["size"] == 5
    deeper = caller.session.get(page["prefixes"][0]["href"]).json()
    assert [item["location"] for item in deeper["items"]] == ["b/1.txt", "b/2.txt"]
    first = caller.get(f"/storage/volumes/{volume}/list?limit=2").json()
    assert first["truncated"] is True
    (link,) = first["links"]
    second = caller.session.get(link["next"]).json()
    assert [item["location"] for item in second["items"]] == ["c.txt"]


def test_only_a_volume_on_google_cloud_storage_shows_checksums(emulator, caller):
    """The well-known check values of both algorithms."""
    emulator.add_volume("demo/gcs", service_type="GCS")
    for volume, checksums in (
        ("demo/gcs", {"md5Hash": "JfnnlDI7RTiF9RgfG2JNCw==", "crc32c": "4waSgw=="}),
        ("demo/results", {}),
    ):
        emulator.put_object(volume, "a/digits", b"123456789")
        shown = caller.get(f"/storage/volumes/{volume}/object?location=a/digits").json()["metadata"]
        listed = caller.get(f"/storage/volumes/{volume}/list?prefix=a/&fields=_all").json()["items"]
        assert [item["metadata"] for item in listed] == [shown]
        assert {name: shown[name] for name in shown.keys() & {"md5Hash", "crc32c"}} == checksums
        assert (shown["size"], shown["etag"]) == (9, "25f9e794323b453885f5181f1b624d0b")


def test_links_follow_the_name_that_the_caller_used(emulator, caller):
    answer = caller.get("/storage/exports", headers={"Host": "localhost:8000"})
    assert answer.json()["href"].startswith("http://localhost:8000/v2/")


def test_the_public_file_has_the_same_fields_as_others(caller):
    assert caller.get(f"/files/{REFERENCE}").json()["storage"]["type"] == "PLATFORM"


def test_a_file_is_added_to_the_folder_at_a_path(emulator, caller):
    first = emulator.add_file("a.bam", b"x", folder="runs/one")
    second = emulator.add_file("b.bam", b"x", folder="/runs/one/")
    assert first.parent == second.parent
    folder = caller.get(f"/files/{first.parent}").json()
    above = caller.get(f"/files/{folder['parent']}").json()
    assert (folder["name"], above["name"], above["parent"]) == ("one", "runs", ROOT_FOLDER)
    assert names(caller.get(f"/files?parent={first.parent}")) == ["a.bam", "b.bam"]
    assert names(caller.get("/files?project=demo/genomics")).count("runs") == 1


def test_a_file_lists_its_secondary_files(emulator, caller):
    index = emulator.add_file("a.bam.bai", b"x")
    main = emulator.add_file("a.bam", b"x", secondary=(index.id,))
    href = f"{emulator.url}/files/{index.id}"
    assert caller.get(f"/files/{main.id}").json()["_secondary_files"] == [{"href": href, "id": index.id}]
    assert "_secondary_files" not in caller.get(f"/files/{index.id}").json()
    listed = caller.get("/files?project=demo/genomics&name=a.bam&fields=_all").json()["items"]
    assert [each["_secondary_files"][0]["id"] for each in listed] == [index.id]


def test_all_filters_and_folders(emulator, caller):
    """Folders have a name, but neither tags nor metadata."""
    emulator.add_file("x", b"x", folder="tagged", tags=("t",))
    assert names(caller.get("/files?project=demo/genomics&name=tagged&name=NA12878.vcf")) == ["NA12878.vcf", "tagged"]
    assert names(caller.get("/files?project=demo/genomics&name=tagged&tag=t")) == []
    assert names(caller.get("/files?project=demo/genomics&tag=variants&tag=t")) == ["NA12878.vcf"]


def test_the_bytes_of_a_file(emulator, caller):
    file = emulator.add_file("x.txt", b"0123456789")
    info = caller.get(f"/files/{file.id}/download_info").json()
    assert requests.get(info["url"], timeout=60).content == b"0123456789"
    part = requests.get(info["url"], headers={"Range": "bytes=2-4"}, timeout=60)
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    caller.ended(caller.export(file.id, "x.txt"))
    assert requests.get(info["url"], timeout=60).content == b"0123456789"
    emulator.platform.volumes["demo/results"].active = False
    assert code(caller.get(f"/files/{file.id}/download_info")) == (409, 5034)
    assert code(caller.get(f"/files/{ALIGNMENTS}/download_info")) == (400, 5017)
    assert code(caller.get("/files/nothing/download_info")) == (404, 5002)
    assert requests.get(info["url"].replace(file.id, ALIGNMENTS), timeout=60).status_code == 404
