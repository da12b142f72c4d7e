"""The unmodified official client runs its flows against the local Platform."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import sevenbridges
from sevenbridges.errors import Conflict, Forbidden, NotFound, SbgError, TooManyRequests, Unauthorized
from sevenbridges.http.error_handlers import rate_limit_sleeper

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import ALIGNMENTS, BAM, BAM_INDEX, PROJECT, REFERENCE, REPORT, RESULTS, VCF

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = ("COMPLETED", "FAILED")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Emulator(knobs=Knobs(pending_seconds=0.02, running_seconds=0.02)) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> sevenbridges.Api:
    return sevenbridges.Api(url=emulator.url, token=emulator.token, debug=True)


def ended(export: Any) -> Any:
    deadline = time.monotonic() + 300
    while export.reload().state not in ENDED:
        assert time.monotonic() < deadline, export.state
        time.sleep(0.01)
    return export


def test_the_user_and_the_rate_limit(api):
    assert api.users.me().username == "demo"
    assert api.limit == 1000
    assert 0 < api.remaining < 1000
    assert api.reset_time is not None
    assert len(api.request_id) > 0


def test_a_token_for_oauth(emulator):
    api = sevenbridges.Api(url=emulator.url, oauth_token=emulator.token, advance_access=True, debug=True)
    assert api.users.me().username == "demo"


def test_moving_a_file(emulator, api):
    file = api.files.get(VCF)
    assert (file.storage.type, file.is_folder()) == ("PLATFORM", False)
    export = api.exports.submit_export(file=file, volume=RESULTS, location="moved.vcf")
    assert export.state == "PENDING"
    assert export.error is None
    assert export.source == file
    assert export.destination.location == "moved.vcf"
    assert export.overwrite is False
    assert export.properties["sse_algorithm"] == "AES256"
    assert export.started_on is not None
    ended(export)
    assert export.state == "COMPLETED"
    assert export.finished_on >= export.started_on
    assert export.result.id == VCF
    assert (export.result.storage.volume, export.result.storage.location) == (RESULTS, "moved.vcf")
    file.reload()
    assert file.storage.type == "VOLUME"
    assert len(emulator.object_bytes(RESULTS, "moved.vcf")) == file.size
    with pytest.raises(Forbidden) as caught:
        api.exports.submit_export(file=file, volume=RESULTS, location="again.vcf")
    assert caught.value.code == 9006
    assert caught.value.more_info.endswith("#9006")


def test_copying_a_file(emulator, api):
    volume = api.volumes.get(RESULTS)
    export = ended(
        api.exports.submit_export(
            file=VCF,
            volume=volume,
            location="copy.vcf",
            copy_only=True,
            properties={"sse_algorithm": "aws:kms", "aws_canned_acl": "private"},
        )
    )
    assert export.state == "COMPLETED"
    assert export.properties["aws_canned_acl"] == "private"
    assert api.files.get(VCF).storage.type == "PLATFORM"
    with pytest.raises(Conflict) as caught:
        api.exports.submit_export(file=VCF, volume=volume, location="copy.vcf", copy_only=True)
    assert caught.value.code == 9107
    again = api.exports.submit_export(file=VCF, volume=volume, location="copy.vcf", copy_only=True, overwrite=True)
    assert ended(again).state == "COMPLETED"


def test_a_job_that_fails(emulator, api):
    emulator.trouble("job_fails", code=9100)
    export = ended(api.exports.submit_export(file=VCF, volume=RESULTS, location="x"))
    assert export.state == "FAILED"
    assert (export.error.status, export.error.code) == (503, 9100)
    assert export.result is None


def test_bulk(emulator, api):
    wanted = [
        {"file": api.files.get(VCF), "volume": RESULTS, "location": "1", "overwrite": True},
        {"file": REFERENCE, "volume": RESULTS, "location": "2"},
        {"file": BAM, "volume": RESULTS, "location": "3", "properties": {"sse_algorithm": "AES256"}},
        {"file": "f" * 24, "volume": RESULTS, "location": "4", "overwrite": False, "properties": {}},
    ]
    records = api.exports.bulk_submit(wanted, copy_only=True)
    assert [record.valid for record in records] == [True, False, True, False]
    assert [record.error.code for record in records if not record.valid] == [9006, 9009]
    exports = [record.resource for record in records if record.valid]
    assert [export.source.id for export in exports] == [VCF, BAM]
    for export in exports:
        assert ended(export).state == "COMPLETED"
    found = api.exports.bulk_get([*exports, "x" * 32])
    assert [record.valid for record in found] == [True, True, False]
    assert [record.resource.id for record in found[:2]] == [export.id for export in exports]
    assert found[2].error.code == 9008
    assert emulator.requests[0].headers["User-Agent"].startswith("sevenbridges-python/")


def test_listing_exports_to_the_end(emulator, api):
    emulator.knobs.stuck = True
    items = [{"file": BAM, "volume": RESULTS, "location": str(number)} for number in range(7)]
    submitted = [record.resource.id for record in api.exports.bulk_submit(items, copy_only=True)]
    elsewhere = api.exports.submit_export(file=VCF, volume="demo/archive", location="x", copy_only=True)
    page = api.exports.query(volume=RESULTS, state="PENDING", limit=3)
    assert (page.total, len(page)) == (7, 3)
    assert [export.id for export in page.all()] == submitted[::-1]
    assert page.next_page().previous_page()[0] == page[0]
    assert {export.destination.volume for export in page.all()} == {RESULTS}
    assert [export.id for export in api.volumes.get("demo/archive").get_exports()] == [elsewhere.id]
    assert api.exports.query(state="COMPLETED").total == 0
    before = len(emulator.requests)
    assert all(export.started_on for export in api.exports.query().all())
    assert len(emulator.requests) - before == 2, "a list item lacks a field, so the client fetches each item"


def test_listing_imports(emulator, api):
    for name in ("a.txt", "b.txt"):
        emulator.put_object(RESULTS, name, name.encode())
        emulator.add_import(RESULTS, name)
    page = api.imports.query(volume=RESULTS, state="COMPLETED", limit=1)
    assert page.total == 2
    first, second = page.all()
    assert (first.source.location, second.source.location) == ("b.txt", "a.txt")
    assert (first.destination.project, first.destination.name) == (PROJECT, "b.txt")
    assert (first.result.storage.type, first.result.storage.location) == ("VOLUME", "b.txt")
    assert first.finished_on >= first.started_on
    assert api.files.get(first.result.id).size == 5
    assert api.imports.get(second.id) == second
    assert api.imports.query(volume="demo/archive").total == api.imports.query(state="FAILED").total == 0
    assert [each.id for each in api.volumes.get(RESULTS).get_imports()] == [first.id, second.id]


def test_files_and_folders(api):
    top = api.files.query(project=PROJECT)
    assert [each.name for each in top if each.is_folder()] == ["alignments", "reports"]
    folder = api.files.get(ALIGNMENTS)
    assert {each.id for each in folder.list_files().all()} == {BAM, BAM_INDEX}
    assert [each.id for each in api.files.query(parent=folder, names=["NA12878.bam"])] == [BAM]
    assert [each.id for each in api.files.query(project=PROJECT, tags=["variants"])] == [VCF]
    by_sample = api.files.query(parent=folder, metadata={"sample_id": "NA12878"}, limit=1)
    assert by_sample.total == 2
    assert [each.id for each in by_sample.all()] == [BAM, BAM_INDEX]
    file = by_sample[0]
    assert file.metadata["sample_id"] == "NA12878"
    assert [each.id for each in api.files.query(parent=folder, origin={"task": file.origin.task})] == [BAM]
    records = api.files.bulk_get([api.files.get(VCF), REPORT, "0" * 24])
    assert [record.valid for record in records] == [True, True, False]
    assert records[0].resource.size > 0


def test_projects(api):
    project = api.projects.get(PROJECT)
    assert project.root_folder
    assert project.get_files().total == 4
    assert [each.id for each in api.projects.query().all()] == [PROJECT]
    assert [each.id for each in api.projects.query(owner="demo").all()] == [PROJECT]
    assert api.projects.query(owner="someone").total == 0


def test_volumes_and_their_contents(emulator, api):
    assert {volume.id for volume in api.volumes.query().all()} == {RESULTS, "demo/archive", "demo/readonly"}
    volume = api.volumes.get(RESULTS)
    assert (volume.access_mode, volume.active) == ("RW", True)
    assert (volume.service["type"], volume.service["prefix"]) == ("S3", "exports")
    for location in ("a.txt", "b.txt", "c/1.txt"):
        emulator.put_object(RESULTS, location, b"bytes")
    listed = volume.list(limit=1)
    assert [each.location for each in listed] == ["a.txt"]
    assert [each.location for each in listed.all()] == ["a.txt", "b.txt"]
    everything = volume.list()
    assert [prefix.prefix for prefix in everything.prefixes] == ["c/"]
    assert [each.location for each in volume.list(prefix="c/")] == ["c/1.txt"]
    for number in range(5):
        emulator.put_object(RESULTS, f"c/d/{number}", b"x" * number)
    below = volume.list(prefix="c/d/", limit=2)
    assert [each.metadata["size"] for each in below.all()] == [0, 1, 2, 3, 4]
    assert [each.location for each in below.next_page().next_page()] == ["c/d/4"]
    found = volume.get_volume_object_info("c/1.txt")
    assert found.metadata["size"] == 5
    with pytest.raises(NotFound) as missing:
        volume.get_volume_object_info("nothing")
    assert missing.value.code == 9105


def test_errors_become_the_clients_exceptions(emulator, api):
    with pytest.raises(NotFound):
        api.exports.get("x" * 32)
    with pytest.raises(Unauthorized) as caught:
        sevenbridges.Api(url=emulator.url, token="0" * 32, debug=True).users.me()
    assert caught.value.code == 90001
    emulator.knobs.rate_limit = 0
    with pytest.raises(TooManyRequests) as limited:
        api.users.me()
    assert limited.value.code == 1000
    emulator.knobs.rate_limit = 1000
    emulator.trouble("lose_reply")
    with pytest.raises(SbgError):
        api.exports.submit_export(file=VCF, volume=RESULTS, location="x", copy_only=True)
    assert len(emulator.exports) == 1


def test_sleeping_through_the_rate_limit(emulator):
    emulator.knobs.update(rate_limit=3, rate_window=1)
    api = sevenbridges.Api(url=emulator.url, token=emulator.token, debug=True, error_handlers=[rate_limit_sleeper])
    for _ in range(4):
        assert api.users.me().username == "demo"
    assert 429 in [record.status for record in emulator.requests]
