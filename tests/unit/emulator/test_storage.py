from __future__ import annotations

import hashlib

import boto3
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF
from airflow_sb_provider.emulator.storage import Storage
from tests.unit.emulator.conftest import Caller, code

KEYS = ["a", "b/c", "d//e", "../../etc/passwd", "./f", "/g", "h%2Fi", "j k+l&m=n", "%", "%2E%2E/o", "ü.txt"]


def test_any_key_stays_in_its_bucket(tmp_path):
    storage = Storage(str(tmp_path / "in" / "here"))
    storage.make_bucket("bucket")
    for key in KEYS:
        storage.write("bucket", key, key.encode())
    assert [each.key for each in storage.list("bucket")] == sorted(KEYS)
    for key in KEYS:
        assert storage.read("bucket", key) == key.encode()
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and "bucket" not in path.parts]
    assert outside == []
    stored = storage.stat("bucket", "b/c")
    assert stored
    assert (stored.size, stored.etag) == (3, hashlib.md5(b"b/c").hexdigest())
    assert storage.stat("bucket", "b") is None
    assert storage.stat("bucket", "a/below") is None
    storage.delete("bucket", "b/c")
    storage.delete("bucket", "b/c")
    assert storage.stat("bucket", "b/c") is None


def test_a_key_that_a_folder_cannot_hold_fails_the_job(emulator, caller):
    emulator.put_object("demo/archive", "taken", b"x")
    failed = caller.ended(caller.export(location="taken/below", volume="demo/archive"))
    assert failed["error"]["code"] == 9100
    assert caller.get(f"/files/{VCF}").json()["storage"]["type"] == "PLATFORM"


def test_a_temporary_folder_is_removed_and_a_specified_one_is_kept(tmp_path):
    with Emulator() as emulator:
        temporary = emulator.platform.storage.url.removeprefix("file://")
        assert list(tmp_path.__class__(temporary).iterdir())
    assert not tmp_path.__class__(temporary).exists()
    with Emulator(storage=str(tmp_path), knobs=Knobs(instant=True, pending_seconds=0, running_seconds=0)) as emulator:
        Caller(emulator).export()
    assert (tmp_path / "demo-results" / "exports" / "out.vcf").exists()


def test_exports_into_real_buckets_of_an_s3_endpoint(s3_endpoint):
    knobs = Knobs(pending_seconds=0, running_seconds=0)
    with Emulator(storage="s3://platform-bytes", storage_endpoint=s3_endpoint, knobs=knobs) as emulator:
        caller = Caller(emulator)
        copied = caller.ended(caller.export(location="a/copy.vcf", copy_only="true"))
        moved = caller.ended(caller.export(location="moved.vcf"))
        assert (copied["state"], moved["state"]) == ("COMPLETED", "COMPLETED")
        client = boto3.client("s3", endpoint_url=s3_endpoint)
        body = client.get_object(Bucket="demo-results", Key="exports/moved.vcf")["Body"].read()
        assert body == emulator.object_bytes("demo/results", "a/copy.vcf")
        stored = caller.get("/storage/volumes/demo/results/object?location=moved.vcf").json()["metadata"]
        assert stored["size"] == len(body)
        assert stored["etag"] == hashlib.md5(body).hexdigest()
        kept = [each["Key"] for each in client.list_objects_v2(Bucket="platform-bytes")["Contents"]]
        assert not [key for key in kept if VCF in key]
        assert code(caller.export(emulator.add_file("x", b"new").id, "moved.vcf")) == (409, 9107)
        again = caller.ended(caller.export(emulator.add_file("y", b"new").id, "moved.vcf", overwrite=True))
        assert again["state"] == "COMPLETED"
        assert client.get_object(Bucket="demo-results", Key="exports/moved.vcf")["Body"].read() == b"new"
        listed = caller.get("/storage/volumes/demo/results/list").json()
        assert [item["location"] for item in listed["items"]] == ["moved.vcf"]
        assert [item["prefix"] for item in listed["prefixes"]] == ["a/"]


def test_s3_clients_read_the_buckets_of_a_folder(emulator, caller):
    caller.ended(caller.export(location="a b/out.vcf", copy_only="true"))
    environment = emulator.s3_environment()
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    place = {"Bucket": "demo-results", "Key": "exports/a b/out.vcf"}
    whole = client.get_object(**place)["Body"].read()
    assert whole == emulator.object_bytes("demo/results", "a b/out.vcf")
    assert client.head_object(**place)["ContentLength"] == len(whole)
    assert client.get_object(**place, Range="bytes=2-12")["Body"].read() == whole[2:13]
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="demo-results", Key="exports/nothing")
