"""Addresses of manifests, and recognition of an earlier one."""

from __future__ import annotations

import json

import pytest

from airflow_sb_provider.exports.manifest import (
    check_address,
    check_below,
    check_prefix,
    is_manifest_of,
    manifest_text,
    prefix_in_template,
)
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.tracked import TrackedExport

RUN = {"username": "me", "dag_id": "-d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1}


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("s3://b/a", "s3://b/a/x.csv"),
        ("s3://b/a/", "s3://b/a/deep/er/x.csv"),
        ("s3://b", "s3://b/x.csv"),
        ("S3://b/", "s3://b/x.csv"),
        ("s3://b/", "S3://b/x.csv"),
        ("s3://conn@b/a", "s3://conn@b/a/x.csv"),
        ("s3://b/a", "s3://b/a/me@example.org.csv"),
        ("/data/m", "file:///data/m/x.csv"),
        ("file:///data/m", "/data/m/x.csv"),
        ("file:///data/m", "local:///data/m/x.csv"),
        ("out/", "out/x.csv"),
        ("gs://b/a", "gs://b/a/..x../x.csv"),
    ],
)
def test_an_address_below_the_prefix_is_accepted(prefix, address):
    assert check_below(address, check_prefix(prefix)) == address


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("s3://b/a", "s3://b/ab/x.csv"),
        ("s3://b/a", "s3://b/a.csv"),
        ("s3://b/a/", "s3://b/a/"),
        ("s3://b/a", "s3://b/A/x.csv"),
        ("s3://b/a", "s3://bb/a/x.csv"),
        ("s3://b/a", "s3://conn@b/a/x.csv"),
        ("s3://conn@b/a", "s3://b/a/x.csv"),
        ("s3://conn@b/a", "s3://other@b/a/x.csv"),
        ("s3://conn@b/a", "s3://Conn@b/a/x.csv"),
        ("s3://b/a", "s3://b@b/a/x.csv"),
        ("s3://b/a", "s3://b/a/../x.csv"),
        ("s3://b/a", "s3://b/a/./x.csv"),
        ("s3://b/a", "s3://b/a//x.csv"),
        ("s3://b/a", "s3://b//a/x.csv"),
        ("s3://b/a", "s3:///b/a/x.csv"),
        ("s3://b/a", "s3://b/a/..\\x.csv"),
        ("s3://b/a", "s3://b/a/%2e%2e/x.csv"),
        ("s3://b/a", "s3://b/a/x?y.csv"),
        ("s3://b/a", "s3://b/a/x#y.csv"),
        ("s3://b/a", "s3://b/a/\n/x.csv"),
        ("s3://b/a", "\ts3://b/a/x.csv"),
        ("s3://b/a", " s3://b/a/x.csv"),
        ("s3://b/a", "gs://b/a/x.csv"),
        ("s3://b/a", "b/a/x.csv"),
        ("s3://b/a", "s3:/b/a/x.csv"),
        ("s3://b/a", "file:///etc/x.csv"),
        ("s3://b/a", "/etc/x.csv"),
        ("s3://b/a", "simplecache::s3://b/a/x.csv"),
        ("s3://b/a", "s3://b/a/x::file:///etc/x.csv"),
        ("s3://b/a", "zip://x::s3://b/a/x.csv"),
        ("/data/m", "/data/mm/x.csv"),
        ("/data/m", "/data/m/../x.csv"),
        ("/data/m", "data/m/x.csv"),
        ("/data/m", "file:/data/m/x.csv"),
        ("/data/m", "file://data/m/x.csv"),
        ("out", "/out/x.csv"),
        ("out", "../out/x.csv"),
        ("", "/data/x.csv"),
    ],
)
def test_an_address_that_is_not_below_the_prefix_is_rejected(prefix, address):
    with pytest.raises(ValueError, match=r"is not below|remove it|set manifest_prefix"):
        check_below(address, prefix)


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("s3://b/m/{{ run_id }}.csv", "s3://b/m/"),
        ("s3://b/m/x-{{ run_id }}.csv", "s3://b/m/"),
        ("s3://conn@b/{% if x %}a{% endif %}.csv", "s3://conn@b/"),
        ("s3://b/{# why #}a.csv", "s3://b/"),
        ("/data/{{ x }}.csv", "/data/"),
        ("out/{{ x }}.csv", "out/"),
        ("{{ params.manifest }}", ""),
        ("s3://{{ bucket }}/m/x.csv", ""),
        ("s3://b-{{ env }}/m/x.csv", ""),
        ("s3://{{ conn }}@b/m/x.csv", ""),
        ("/{{ x }}.csv", ""),
        ("file:///{{ x }}.csv", ""),
        ("./{{ x }}.csv", ""),
        ("../{{ x }}.csv", ""),
        (object(), ""),
        (None, ""),
    ],
)
def test_the_prefix_of_a_template_is_its_first_folder(source, prefix):
    assert prefix_in_template(source) == prefix


@pytest.mark.parametrize("address", ["a.xml", "a", "", 7, b"a.csv", None, ["a.csv"]])
def test_an_address_without_a_known_suffix_is_rejected(address):
    with pytest.raises(ValueError, match="known suffix"):
        check_address(address)


@pytest.mark.parametrize("address", ["m.csv", "m.CSV", "m.jsonl", "m.json"])
def test_an_earlier_manifest_is_recognized_by_its_task(address):
    entry = TrackedExport(ExportRequest("0" * 24, "me/out", "x"), name="=\u2028\ud800", tags=("a",))
    head = manifest_text(address, [entry], volumes={}, metadata=(), run=RUN)
    assert is_manifest_of(b"", address, RUN)
    assert is_manifest_of(head, address, {**RUN, "run_id": "another", "try_number": 7})
    for other in ({"dag_id": "d"}, {"task_id": "u"}, {"map_index": 0}):
        assert not is_manifest_of(head, address, {**RUN, **other})
    assert not is_manifest_of(head[:50], address, RUN)
    assert not is_manifest_of(b"\x00\xff" * 100, address, RUN)


def test_a_lone_surrogate_is_written_as_json():
    entry = TrackedExport(ExportRequest("0" * 24, "me/out", "x"), name="a\ud800")
    text = manifest_text("m.jsonl", [entry], volumes={}, metadata=(), run=RUN)
    assert json.loads(text.decode())["name"] == "a\ud800"
