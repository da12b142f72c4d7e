"""The toy apps compute real outputs, and ports have CWL's types."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct

import pytest

from airflow_sb_provider.emulator.apps import OutputFile, mismatch
from airflow_sb_provider.emulator.seed import (
    ALIGNMENTS,
    ALL_TYPES,
    BAM,
    BAM_INDEX,
    CHECKSUMS,
    GZIP,
    PROJECT,
    VCF,
    WORD_COUNT,
)
from tests.unit.emulator.conftest import Caller, as_file, code


def test_an_app_shows_its_ports_as_cwl(caller):
    app = caller.get(f"/apps/{CHECKSUMS}").json()
    assert (app["id"], app["project"], app["name"], app["revision"]) == (f"{CHECKSUMS}/0", PROJECT, "Checksums", 0)
    raw = app["raw"]
    assert (raw["class"], raw["cwlVersion"], raw["sbg:id"]) == ("CommandLineTool", "v1.2", f"{CHECKSUMS}/0")
    assert raw["inputs"] == [
        {"id": "files", "type": "File[]"},
        {"id": "algorithm", "type": {"type": "enum", "symbols": ["md5", "sha1", "sha256"]}, "default": "sha256"},
    ]
    assert raw["outputs"] == [{"id": "checksums", "type": "File"}]
    assert caller.get(f"/apps/{ALL_TYPES}").json()["raw"]["class"] == "Workflow"
    assert caller.get(app["href"].removeprefix(caller.emulator.url)).json() == app


def test_an_app_is_its_newest_revision_unless_the_id_names_one(caller):
    revisions = [caller.get(f"/apps/{WORD_COUNT}{suffix}").json()["revision"] for suffix in ("", "/0", "/1")]
    assert revisions == [1, 0, 1]
    for missing in (f"{WORD_COUNT}/2", f"{WORD_COUNT}s", "demo/other/word-count"):
        assert code(caller.get(f"/apps/{missing}")) == (404, 6002)
    assert code(caller.get(f"/apps/{WORD_COUNT}/first")) == (400, 6011)


def test_apps_of_a_project_are_listed_brief(emulator, caller):
    emulator.add_app("other", lambda inputs: {}, {}, {}, project="demo/more")
    listed = caller.get("/apps", params={"project": PROJECT})
    assert [item["id"] for item in listed.json()["items"]] == [WORD_COUNT, GZIP, CHECKSUMS, ALL_TYPES]
    assert listed.headers["X-Total-Matching-Query"] == "4"
    assert {frozenset(item) for item in listed.json()["items"]} == {frozenset(("href", "id", "name", "project"))}
    assert len(caller.get("/apps").json()["items"]) == 5
    assert [item["id"] for item in caller.get("/apps?q=gzip").json()["items"]] == [GZIP]
    assert [item["id"] for item in caller.get(f"/apps?id={GZIP}").json()["items"]] == [GZIP]
    assert caller.get("/apps?visibility=public").json()["items"] == []
    assert code(caller.get("/apps?project=demo/nothing")) == (404, 3002)


def test_apps_need_access(emulator, caller):
    blind = Caller(emulator, emulator.add_token("blind", "none"))
    assert blind.get("/apps").json()["items"] == []
    assert code(blind.get(f"/apps/{GZIP}")) == (403, 6001)


def test_word_count(emulator, caller):
    first, second = emulator.add_file("a.txt", b"one two\nthree\n"), emulator.add_file("b\tc\n.txt", b"\xff four")
    task = caller.completed(WORD_COUNT, {"files": [as_file(first.id), as_file(second.id)]})
    assert task["outputs"]["total"] == 5
    counts = task["outputs"]["counts"]
    lines = emulator.file_bytes(counts["path"]).decode().splitlines()
    assert lines == ["lines\twords\tbytes\tname", "2\t3\t14\ta.txt", "0\t2\t6\tb\\tc\\n.txt"]
    file = caller.get(f"/files/{counts['path']}").json()
    assert (file["name"], file["project"], file["origin"]) == ("counts.tsv", PROJECT, {"task": task["id"]})
    assert file["size"] == len(emulator.file_bytes(counts["path"]))
    assert file["storage"]["type"] == "PLATFORM"


def test_gzip_with_an_index_that_outputs_do_not_list(emulator, caller):
    data = hashlib.shake_256(b"seed").digest(200_000)
    file = emulator.add_file("big.bin", data)
    outputs = caller.completed(GZIP, {"file": as_file(file.id)})["outputs"]
    assert list(outputs) == ["compressed"]
    assert outputs["compressed"]["name"] == "big.bin.gz"
    assert "secondaryFiles" not in outputs["compressed"]
    compressed = emulator.file_bytes(outputs["compressed"]["path"])
    assert gzip.decompress(compressed) == data
    [index] = caller.get("/files", params={"project": PROJECT, "name": "big.bin.gz.gzi"}).json()["items"]
    content = emulator.file_bytes(index["id"])
    (count,) = struct.unpack_from("<Q", content)
    entries = list(struct.iter_unpack("<QQ", content[8:]))
    assert count == len(entries) == 3
    for start, uncompressed in entries:
        assert gzip.decompress(compressed[start:]) == data[uncompressed:]


@pytest.mark.parametrize("algorithm", ["md5", "sha256", None])
def test_checksums(emulator, caller, algorithm):
    file = emulator.add_file("a.txt", b"text")
    inputs = {"files": [as_file(file.id)], **({"algorithm": algorithm} if algorithm else {})}
    output = caller.completed(CHECKSUMS, inputs)["outputs"]["checksums"]
    digest = hashlib.new(algorithm or "sha256", b"text").hexdigest()
    assert emulator.file_bytes(output["path"]) == f"{digest}  a.txt\n".encode()


def test_every_type_of_port(emulator, caller):
    inputs = {
        "count": 3,
        "flag": True,
        "sample": {"id": "NA12878", "depth": 30, "reads": as_file(BAM)},
        "tags": ["x", "y"],
        "folder": as_file(ALIGNMENTS, "Directory"),
        "flavor": "spicy",
    }
    task = caller.completed(ALL_TYPES, inputs)
    outputs = task["outputs"]
    assert (outputs["doubled"], outputs["half"], outputs["flag"], outputs["nothing"]) == (6, 1.5, False, None)
    assert outputs["sample"] == {"id": "NA12878", "depth": 30}
    report = json.loads(emulator.file_bytes(outputs["report"]["path"]))
    assert (report["note"], report["ratio"], report["sample"]["reads"]) == ("none", None, "NA12878.bam")
    assert [part["name"] for part in outputs["parts"]] == ["part-x.txt", "part-y.txt"]
    [index] = outputs["parts"][0]["secondaryFiles"]
    assert index["name"] == "part-x.txt.idx"
    part = caller.get(f"/files/{outputs['parts'][0]['path']}").json()
    assert [each["id"] for each in part["_secondary_files"]] == [index["path"]]
    assert (outputs["folder"]["class"], outputs["folder"]["name"]) == ("Directory", "parts")
    inside = caller.get(f"/files/{outputs['folder']['path']}/list").json()["items"]
    assert [each["name"] for each in inside] == ["size.txt"]
    # The API shows the names of input files, also inside a record.
    assert task["inputs"]["sample"]["reads"] == {**as_file(BAM), "name": "NA12878.bam"}
    assert task["inputs"]["folder"]["name"] == "alignments"


def test_a_function_of_your_own(emulator, caller):
    def join(inputs):
        names = [file.name for file in inputs["folder"].contents]
        return {"joined": OutputFile("joined.txt", "+".join(sorted(names)).encode())}

    app = emulator.add_app("join", join, {"folder": "Directory"}, {"joined": "File"}, project="demo/more")
    task = caller.completed(app.id, {"folder": as_file(ALIGNMENTS, "Directory")})
    assert emulator.file_bytes(task["outputs"]["joined"]["path"]) == b"NA12878.bam+NA12878.bam.bai"
    assert task["app"] == "demo/more/join/0"


def test_an_app_that_raises_fails_the_task(emulator, caller):
    def fail(inputs):
        raise ValueError("exit code 2\nforged line")

    app = emulator.add_app("fail", fail, {}, {"never": "File"})
    task = caller.finished(caller.create(app.id, "?action=run").json()["id"])
    assert task["status"] == "FAILED"
    assert task["execution_status"]["message"] == "exit code 2\nforged line"
    assert task["outputs"] == {"never": None}
    [job] = caller.get(f"/tasks/{task['id']}/execution_details").json()["jobs"]
    log = job["logs"]["job.err.log"].split("/files/")[1].removesuffix("/download_info")
    assert emulator.file_bytes(log) == b"exit code 2\nforged line"


RECORD = {"type": "record", "fields": [{"name": "id", "type": "string"}, {"name": "n", "type": "int?"}]}
ENUM = {"type": "enum", "symbols": ["port/a", "b"]}


@pytest.mark.parametrize(
    ("kind", "valid", "invalid"),
    [
        ("int", [0, -1], [True, 1.5, "1", None]),
        ("float", [0, 1.5], [True, "1.5"]),
        ("boolean", [True], [1, "true"]),
        ("string", ["", "x"], [1, None]),
        ("string?", ["x", None], [1]),
        (["null", "int"], [None, 1], ["1"]),
        ("int[]", [[], [1, 2]], [1, ["1"]]),
        ({"type": "array", "items": {"type": "array", "items": "int"}}, [[[1], []]], [[1]]),
        (ENUM, ["a", "b"], ["c", 1, ["a"]]),
        (RECORD, [{"id": "x"}, {"id": "x", "n": 1}], [{}, {"id": "x", "n": "1"}, {"id": "x", "other": 1}, "x"]),
        ({"type": "string"}, ["x"], [1]),
        ("Any", [1, "x", []], [None]),
        ("File", [as_file(VCF)], ["x", as_file(VCF, "Directory"), {"class": "File"}, as_file("unreadable")]),
        ("Directory?", [None, as_file(ALIGNMENTS, "Directory")], [as_file(VCF)]),
        ("stdin", [], ["x"]),
    ],
)
def test_types(kind, valid, invalid):
    def problem_of(path, kind):
        return f"file {path} is unreadable" if path == "unreadable" else None

    assert [mismatch(kind, value, problem_of) for value in valid] == [None] * len(valid)
    assert all(mismatch(kind, value, problem_of) for value in invalid)


def test_the_reason_names_the_file_of_an_optional_port():
    reason = mismatch(["null", "File"], as_file(BAM_INDEX), lambda path, kind: f"file {path} is gone")
    assert reason == f"file {BAM_INDEX} is gone"
