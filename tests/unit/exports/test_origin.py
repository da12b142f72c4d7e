from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sb_provider.api.models import ExportJob, File, ImportJob, Volume
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.exceptions import SevenBridgesNotFoundError
from airflow_sb_provider.exports.origin import find_origin, importers, makers
from airflow_sb_provider.exports.request import ExportRequest

HERE = ExportRequest("5" * 24, "o/v", "a/key", overwrite=True)
VOLUMES = {
    "o/v": Volume("o/v", service="s3", bucket="b", prefix="pre"),
    "o/same": Volume("o/same", service="s3", bucket="b"),
    "o/other": Volume("o/other", service="s3", bucket="c"),
}
FILE = File("6" * 24, "f", 7, "o/p", storage="PLATFORM")
GONE = SevenBridgesNotFoundError(404, 5002, "not found")


def alias(volume="o/v", location="a/key", **more):
    return replace(FILE, storage="VOLUME", volume=volume, location=location, **more)


def export(number, volume="o/v", location="a/key", minute=0, file=FILE.id, result=None):
    moment = parse_time(f"2026-01-01T00:{minute:02}:00Z")
    return ExportJob(f"j{number}", "COMPLETED", file, volume, location, finished_on=moment, result=result)


def imported(volume="o/v", location="a/key", result=None):
    return ImportJob("i", "COMPLETED", volume, location, result=result)


def as_json(file):
    storage = {"type": file.storage, "volume": file.volume, "location": file.location}
    return {"id": file.id, "name": file.name, "size": file.size, "project": file.project, "storage": storage}


def origin(exports=(), imports=(), files=(), unknown=()):
    return find_origin(HERE, exports, imports, {file.id: file for file in files}, VOLUMES, unknown)


def test_the_newest_export_to_each_place_that_may_be_the_destination_made_it():
    old, new, near = export(1), export(2, minute=1), export(3, "o/same", "pre/a/key")
    elsewhere = [export(4, location="key"), export(5, "o/other", "pre/a/key")]
    assert makers(HERE, [new, old, near, *elsewhere], VOLUMES) == [new, near]


def test_exports_without_times_may_all_have_made_it():
    jobs = [replace(export(number), finished_on=None) for number in (1, 2)]
    assert makers(HERE, jobs, VOLUMES) == jobs
    assert origin(exports=jobs).export is None


@pytest.mark.parametrize(
    ("volume", "location", "counts"),
    [
        ("o/v", "a/key", True),
        ("o/v", "a", True),
        ("o/v", "a/", True),
        ("o/v", "/", True),
        ("o/same", "pre/a/key", True),
        ("o/same", "pre", True),
        ("o/v", "a/k", False),
        ("o/v", "key", False),
        ("o/v", "a/key/more", False),
        ("o/other", "pre/a/key", False),
        (None, None, False),
    ],
)
def test_imports_of_the_object_and_of_a_folder_that_contains_it(volume, location, counts):
    job = imported(volume, location)
    assert importers([HERE], [job], VOLUMES) == ({HERE: [job]} if counts else {})


@pytest.mark.parametrize(
    ("volume", "location", "counts"),
    [
        ("o/v", "a/key", True),
        ("o/v", "pre/a/key", True),
        ("o/v", "prea/key", True),
        ("o/same", "pre/a/key", True),
        ("o/v", "key", False),
        ("o/same", "a/key", False),
        ("o/other", "pre/a/key", False),
    ],
)
def test_each_reading_of_an_alias_counts(volume, location, counts):
    assert bool(origin(files=[alias(volume, location)]).aliases) == counts


def test_the_requests_own_file_is_no_other_file():
    assert origin(files=[alias(id=HERE.file)]).aliases == ()


def test_the_result_of_a_job_counts_where_the_file_shows_late_that_it_was_moved():
    job = export(1, result=as_json(alias()))
    assert [file.id for file in origin(exports=[job], files=[FILE]).aliases] == [FILE.id]
    assert origin(exports=[replace(job, result=as_json(FILE))], files=[FILE]).aliases == ()


def test_a_file_that_cannot_be_read_is_not_known():
    for jobs in ({"exports": [export(1)]}, {"imports": [imported(result=as_json(alias()))]}):
        found = find_origin(HERE, jobs.get("exports", []), jobs.get("imports", []), {FILE.id: GONE}, VOLUMES, [])
        assert found.unknown == (f"file {FILE.id}, which cannot be read",)
        assert not found.aliases


def test_the_files_of_a_folder_that_was_imported_are_not_known():
    found = origin(imports=[imported(location="a")])
    assert found.unknown == ("the files made by import i of o/v/a",)


def test_many_aliases_are_counted():
    aliases = [alias(id=f"{number:024x}") for number in range(5)]
    found = origin(exports=[export(1)], files=aliases)
    assert len(found.aliases) == 5
    assert "and 2 more, aliases of" in found.loss


def test_names_of_others_stay_on_one_line():
    found = origin(files=[alias(name="a\nERROR forged", project="o/\x1b[31mp")])
    for text in (found.loss, found.explanation, found.warning):
        assert "\n" not in text
        assert "\x1b" not in text
