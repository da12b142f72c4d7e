"""Addresses of manifests, and recognition of an earlier one."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider.api.models import VolumeObject
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.manifest import (
    HEAD_BYTES,
    check_address,
    check_below,
    check_prefix,
    is_manifest_of,
    manifest_lines,
    prefix_in_template,
    read_manifest,
)
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.exports.verification import ExpectedObject

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
    head = b"".join(manifest_lines(address, [entry], volumes={}, metadata=(), run=RUN))
    assert is_manifest_of(b"", address, RUN)
    assert is_manifest_of(head, address, {**RUN, "run_id": "another", "try_number": 7})
    for other in ({"dag_id": "d"}, {"task_id": "u"}, {"map_index": 0}):
        assert not is_manifest_of(head, address, {**RUN, **other})
    assert not is_manifest_of(head[:50], address, RUN)
    assert not is_manifest_of(b"\x00\xff" * 100, address, RUN)


FILE = "5" * 24
FORMATS = pytest.mark.parametrize("address", ["m.csv", "m.jsonl"])


def made(location="a/b.vcf", state="COMPLETED", proof=None, **fields):
    request = ExportRequest(FILE, "me/out", location)
    return TrackedExport(request, state=state, size=7, proof=proof, **fields)


def written(address, *entries):
    return b"".join(manifest_lines(address, entries, volumes={}, metadata=(), run=RUN))


def read(address, text):
    return list(read_manifest(io.BytesIO(text), address))


@FORMATS
def test_what_was_written_is_read_again(address):
    proof = VolumeObject("x", "me/out", 7, "e", "m==", "c==")
    text = written(
        address,
        made(proof=proof, name='two\nlines"', finished_on="2026-11-27T20:00:00+00:00"),
        made("b", "FAILED"),
        made("c", name="\ud800", tags=("a", "b")),
    )
    known = {"volume": "me/out", "size": 7, "file": FILE}
    assert read(address, text) == [
        ExpectedObject(location="a/b.vcf", etag="e", md5="m==", crc32c="c==", finished_at=1_795_809_600.0, **known),
        None,
        ExpectedObject(location="c", **known),
    ]


@FORMATS
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8))
def test_any_location_is_read_as_it_was(address, text):
    # Quotes and signs of formulas first: what protects spreadsheets must not change a key.
    for location in (f"x{text}x", f"{text}x", f"'{text}x", f"'={text}x", f"={text}x", f" ''+{text}x"):
        if not location.startswith("/"):
            [row] = read(address, written(address, made(location)))
            assert row.location == location


@FORMATS
def test_a_manifest_without_rows_is_read(address):
    assert read(address, b"") == read(address, b"\n") == read(address, written(address)) == []


@FORMATS
def test_a_manifest_that_an_editor_saved(address):
    text = b"\xef\xbb\xbf" + written(address, made(), made("b")).replace(b"\r\n", b"\n").rstrip() + b"\n\n"
    assert [row.location for row in read(address, text)] == ["a/b.vcf", "b"]


def of(**fields):
    return {"file": FILE, "volume": "me/out", "location": "a", "state": "COMPLETED", "size": 7, **fields}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("[]", "it is not a JSON object"),
        ("7", "it is not a JSON object"),
        ('{"file": ', "it is not JSON"),
        ("[" * 100_000, "."),
        ('{"size": ' + "9" * 10_000 + "}", "it is not JSON"),
        ('"' + "x" * HEAD_BYTES + '"', "too long"),
        (json.dumps({"a": 1}), "it has no 'file'"),
        (json.dumps({key: value for key, value in of().items() if key != "size"}), "it has no 'size'"),
        (json.dumps(of(volume="output")), "volume: 'output' is not owner/name"),
        (json.dumps(of(volume=["me/out"])), "volume: "),
        (json.dumps(of(volume=None)), "volume: "),
        (json.dumps(of(location="")), "location: '' is not the key of an object"),
        (json.dumps(of(location=5)), "location: 5 is not the key"),
        (json.dumps(of(location="../../user\x00")), "location: .*U\\+0000"),
        (json.dumps(of(location="\ud800")), "location: .*lone surrogate"),
        (json.dumps(of(location="s3://b/x")), "location: .*is an address"),
        (json.dumps(of(location="x" * 2000)), "location: .*longer than 1024 bytes"),
        (json.dumps(of(size="many")), "size: 'many' is not a number of bytes"),
        (json.dumps(of(size=-1)), "size: -1 is not"),
        (json.dumps(of(size=1.5)), "size: 1.5 is not"),
        (json.dumps(of(size=True)), "size: True is not"),
        (json.dumps(of(file="{{ 7 }}")), "file: "),
    ],
)
def test_a_row_that_is_none_is_an_error_that_names_the_line(row, problem):
    text = json.dumps(of()) + "\n" + row + "\n" + json.dumps(of())
    rows = read_manifest(io.BytesIO(text.encode()), "m.jsonl")
    assert next(rows).size == 7
    with pytest.raises(SevenBridgesInputError, match=rf"^manifest: 'm.jsonl', line 2: .*{problem}") as caught:
        next(rows)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


HEADER = "file,volume,location,state,size\r\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a,b\r\n1,2\r\n", 2, "it has no 'file'"),
        (f"{HEADER}{FILE},me/out\r\n", 2, "it has 2 cells instead of 5"),
        (f'{HEADER}{FILE},me/out,"a\n\nb",FAILED,7\r\n{FILE},me/out,x,COMPLETED,seven\r\n', 5, "size: 'seven'"),
        (f'{HEADER}{FILE},me/out,"a,COMPLETED,7\r\n', 2, "unexpected end of data"),
        (f'{HEADER}{FILE},me/out,"a"b,COMPLETED,7\r\n', 2, "expected after"),
        (f"{HEADER}{FILE},me/out,{'x' * 200_000},COMPLETED,7\r\n", 2, "field larger than field limit"),
        (HEADER + '"' + "x\n" * HEAD_BYTES, 2, "field limit"),
        (HEADER + ('"' + "x" * 100_000 + '\n",') * 11, 2, "too long"),
        (f"{HEADER}\xff", 2, "codec can't decode"),
    ],
)
def test_csv_that_is_no_manifest_is_an_error_that_names_the_line(text, line, problem):
    with pytest.raises(SevenBridgesInputError, match=rf"^manifest: 'm.csv', line {line}: .*{problem}") as caught:
        read("m.csv", text.encode("latin-1"))
    assert len(str(caught.value)) < 500


@FORMATS
def test_only_a_part_of_a_manifest_is_in_memory(address):
    class Endless(io.RawIOBase):
        """The same row again and again."""

        def __init__(self):
            head, _, row = written("m.csv", made()).partition(b"\n")
            self.row = row if address == "m.csv" else written("m.jsonl", made())
            self.left = head + b"\n" if address == "m.csv" else b""
            self.given = 0

        def read(self, size=-1):
            assert 0 < size < HEAD_BYTES
            while len(self.left) < size:
                self.left += self.row
            given, self.left = self.left[:size], self.left[size:]
            self.given += size
            return given

    file = Endless()
    rows = read_manifest(file, address)
    assert {next(rows).location for _ in range(1000)} == {"a/b.vcf"}
    assert file.given < 2 * HEAD_BYTES


def test_a_line_without_end_is_not_read_to_its_end():
    class Zeros(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += size
            return b"0" * size

    file = Zeros()
    with pytest.raises(SevenBridgesInputError, match="line 1: it is too long"):
        list(read_manifest(file, "m.jsonl"))
    assert file.given < 2 * HEAD_BYTES


def test_a_lone_surrogate_is_written_as_json():
    entry = TrackedExport(ExportRequest("0" * 24, "me/out", "x"), name="a\ud800")
    text = b"".join(manifest_lines("m.jsonl", [entry], volumes={}, metadata=(), run=RUN))
    assert json.loads(text.decode())["name"] == "a\ud800"
