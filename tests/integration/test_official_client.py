"""The official client, unmodified, doing its own flows against the local Platform."""

from __future__ import annotations

import time

import pytest
import sevenbridges
from sevenbridges.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unauthorized
from sevenbridges.http.error_handlers import rate_limit_sleeper

from airflow_sb_provider.emulator import Emulator, Knobs


@pytest.fixture
def platform():
    with Emulator(knobs=Knobs(pending_seconds=0.02, running_seconds=0.02)) as emulator:
        yield emulator


@pytest.fixture
def api(platform):
    return sevenbridges.Api(url=platform.url, token=platform.token, debug=True)


def ended(api, *ids):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        jobs = [bulk.resource for bulk in api.exports.bulk_get(exports=list(ids))]
        if all(job.state in ("COMPLETED", "FAILED") for job in jobs):
            return jobs
        time.sleep(0.02)
    raise AssertionError("the exports do not end")


def test_user_and_limit(api):
    assert api.users.me().username == "demo"
    assert api.limit == 1000
    assert api.remaining <= 1000


def test_move(api, platform):
    file = platform.add_file("a.txt", b"bytes")
    job = api.exports.submit_export(file=file.id, volume="demo/results", location="client/a.txt")
    assert job.state == "PENDING"
    assert job.overwrite is False
    [job] = ended(api, job.id)
    assert job.state == "COMPLETED"
    assert job.result.storage.type == "VOLUME"
    assert platform.object_bytes("demo/results", "client/a.txt") == b"bytes"
    moved = api.files.get(file.id)
    assert (moved.storage.volume, moved.storage.location) == ("demo/results", "client/a.txt")
    with pytest.raises(Forbidden) as refused:
        api.exports.submit_export(file=file.id, volume="demo/results", location="again")
    assert refused.value.code == 9006


def test_copy_with_properties_and_overwrite(api, platform):
    file = platform.add_file("a.txt", b"bytes")
    submit = {"file": file.id, "volume": "demo/results", "location": "c.txt", "copy_only": True}
    [job] = ended(api, api.exports.submit_export(**submit, properties={"sse_algorithm": "AES256"}).id)
    assert job.properties["sse_algorithm"] == "AES256"
    assert api.files.get(file.id).storage.type == "PLATFORM"
    with pytest.raises(Conflict) as refused:
        api.exports.submit_export(**submit)
    assert refused.value.code == 9107
    assert ended(api, api.exports.submit_export(**submit, overwrite=True).id)[0].state == "COMPLETED"


def test_bulk_with_good_and_bad(api, platform):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    exports = [
        {"file": file, "volume": "demo/results", "location": f"bulk/{file}", "overwrite": False, "properties": {}}
        for file in [*files, "f" * 24]
    ]
    answers = api.exports.bulk_submit(exports=exports, copy_only=True)
    assert [answer.valid for answer in answers] == [True, True, True, False]
    assert answers[3].error.code == 9009
    assert {job.state for job in ended(api, *(answer.resource.id for answer in answers[:3]))} == {"COMPLETED"}


def test_lists_and_their_pages(api, platform):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(7)]
    for file in files:
        api.exports.submit_export(file=file, volume="demo/archive", location=file, copy_only=True)
    jobs = list(api.exports.query(volume="demo/archive", limit=3).all())
    assert sorted(job.source.id for job in jobs) == sorted(files)
    assert api.exports.query(volume="demo/results").total == 0


def test_files_and_folders(api):
    top = list(api.files.query(project="demo/genomics").all())
    assert {file.name for file in top} >= {"NA12878.vcf", "alignments"}
    folder = next(file for file in top if file.name == "alignments")
    assert {file.name for file in folder.list_files().all()} == {"NA12878.bam", "NA12878.bam.bai"}
    [found] = api.files.query(project="demo/genomics", names=["NA12878.vcf"])
    assert found.metadata["sample_id"] == "NA12878"
    assert [bulk.resource.id for bulk in api.files.bulk_get(files=[found.id])] == [found.id]


def test_volumes_and_objects(api, platform):
    assert {volume.id for volume in api.volumes.query().all()} == {"demo/results", "demo/archive", "demo/readonly"}
    volume = api.volumes.get("demo/results")
    assert (volume.access_mode, volume.service["prefix"]) == ("RW", "exports")
    platform.put_object("demo/results", "o.txt", b"object")
    found = volume.get_volume_object_info(location="o.txt")
    assert int(found.metadata["size"]) == 6
    assert [item.location for item in volume.list()] == ["o.txt"]


def test_errors(api, platform):
    with pytest.raises(Unauthorized):
        sevenbridges.Api(url=platform.url, token="0" * 32, debug=True).users.me()
    with pytest.raises(NotFound) as missing:
        api.exports.get("A" * 32)
    assert missing.value.code == 9008
    platform.trouble("error", method="GET", path="/v2/user", status=429, code=1000)
    with pytest.raises(TooManyRequests):
        api.users.me()


def test_the_rate_limit_is_waited_for(platform):
    platform.knobs.update(rate_limit=2, rate_window=1)
    api = sevenbridges.Api(
        url=platform.url,
        token=platform.token,
        debug=True,
        error_handlers=[rate_limit_sleeper],
    )
    assert {api.users.me().username for _ in range(4)} == {"demo"}
