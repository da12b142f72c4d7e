"""What a selection finds on the local Platform, and what it costs."""

from __future__ import annotations

import logging

import pytest

from airflow_sb_provider.emulator.platform import File
from airflow_sb_provider.emulator.seed import ALIGNMENTS, BAM, BAM_INDEX, PROJECT, REFERENCE, REPORT, VCF
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesServerError,
)
from airflow_sb_provider.exports.selection import Selection, plan
from airflow_sb_provider.hooks.selection import list_selected
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.integration.faces.conftest import paths

MINE = "me/p"
TASK = "0d0e6f3c-5b1e-4f6a-9a6e-000000000001"


@pytest.fixture
def hook(platform):
    return SevenBridgesHook()


@pytest.fixture
def select(platform, hook):
    """Returns what is selected, as pairs of path and name; `requests` are what it cost."""

    def select(**fields):
        before = len(platform.requests)
        found = list_selected(hook, Selection.checked(volume="demo/results", **fields))
        select.requests = paths(platform)[before:]
        select.records = platform.requests[before:]
        select.found = found
        assert len({each.file.id for each in found}) == len(found)
        return [f"{each.path}/{each.file.name}" for each in found]

    return select


@pytest.fixture
def logged(caplog, capsys):
    """What was logged; some Airflows log to the standard output."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + capsys.readouterr().out


def many(platform, count, **details):
    """Files without bytes: ten thousand are made in no time."""
    platform.add_file("first", b"x", MINE)
    parent = platform.platform.projects[MINE].root_folder
    for number in range(count - 1):
        file_id = f"b{number:023x}"
        platform.platform.files[file_id] = File(file_id, f"{number}.bam", MINE, parent, **details)


def tree(platform):
    platform.add_file("top.bam", b"x", MINE, tags=("final",))
    platform.add_file("one.bam", b"x", MINE, folder="a", tags=("final",), metadata={"s": "1"})
    platform.add_file("two.txt", b"x", MINE, folder="a/b", tags=("final",), metadata={"s": "2"})
    platform.add_file("two.bam", b"x", MINE, folder="a/b", metadata={"s": "2"}, task=TASK)
    platform.add_file("c.bam", b"x", MINE, folder="c", tags=("draft",))


def test_the_files_of_a_level(platform, select):
    assert select(project=PROJECT) == ["/NA12878.vcf", "/GRCh38.chr20.intervals"]
    assert select(folder=ALIGNMENTS) == ["/NA12878.bam", "/NA12878.bam.bai"]
    assert select.requests == ["GET files"]


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (100, 1), (101, 2), (250, 3)])
def test_a_flat_project_is_one_request_for_each_hundred(platform, select, count, requests):
    many(platform, count)
    assert len(select(project=MINE)) == count
    assert select.requests == ["GET files"] * requests


def test_ten_thousand_files(platform, select):
    many(platform, 10_000, tags=("t",))
    assert len(select(project=MINE, name="*.bam", tags="t")) == 9_999
    assert len(select.requests) == 100


def test_the_platform_filters_where_it_can(platform, select):
    many(platform, 250)
    for number in range(5):
        platform.add_file(f"f{number}.bam", b"x", MINE, tags=("final",), metadata={"s": number % 2}, task=TASK)
    found = select(project=MINE, tags=["final", "x"], metadata={"s": [1, 7]}, origin_task=TASK, name="f*")
    assert found == ["/f1.bam", "/f3.bam"]
    assert select(project=MINE, name=["f1.bam", "{f2,none}.bam"]) == ["/f1.bam", "/f2.bam"]
    assert select.requests == ["GET files"]
    assert select(project=MINE, name=["f1.bam", "[f]2.bam"]) == ["/f1.bam", "/f2.bam"]
    assert len(select.requests) == 3


def test_an_address_that_would_be_too_long_is_not_asked(platform, select):
    many(platform, 150)
    names = [f"{number}.bam" for number in range(1000)]
    assert len(select(project=MINE, name=names)) == 149
    assert len(select.requests) == 2
    assert all(len(str(record.query)) < 6000 for record in select.records)


def test_what_the_platform_does_not_filter_is_not_taken(platform, select, monkeypatch):
    """What is moved cannot be moved back, so a filter that is ignored must not widen a selection."""
    tree(platform)
    monkeypatch.setattr("airflow_sb_provider.emulator.server._fits", lambda file, name, wanted: True)
    assert select(project=MINE, tags="final") == ["/top.bam"]


def test_folders_are_walked_breadth_first(platform, select):
    tree(platform)
    assert select(project=MINE, recursive=True) == [
        "/top.bam",
        "a/one.bam",
        "c/c.bam",
        "a/b/two.txt",
        "a/b/two.bam",
    ]
    assert select.requests == ["GET files"] * 4
    assert select(project=MINE, recursive=True, name="*.bam", tags=["final", "draft"]) == [
        "/top.bam",
        "a/one.bam",
        "c/c.bam",
    ]
    assert len(select.requests) == 4
    folder = platform.platform.folder_at("a", MINE).id
    assert select(folder=folder, recursive=True, metadata={"s": 2}) == ["b/two.txt", "b/two.bam"]
    assert select(folder=folder, recursive=True, origin_task=TASK) == ["b/two.bam"]
    assert len(select.requests) == 2


def test_a_folder_that_is_in_itself_is_listed_once(platform, select):
    tree(platform)
    inner, outer = (platform.platform.folder_at(path, MINE) for path in ("a/b", "a"))
    outer.parent = inner.id
    assert select(folder=outer.id, recursive=True) == ["/one.bam", "b/two.txt", "b/two.bam"]
    assert len(select.requests) == 2


def test_a_folder_whose_name_would_be_two(platform, select):
    platform.platform.add_project(MINE)
    platform.platform.add_folder("a/b", MINE)
    with pytest.raises(SevenBridgesInputError, match="'a/b'"):
        select(project=MINE, recursive=True)
    assert select(project=MINE) == []


def test_a_folder_that_leads_up_is_refused_in_the_plan(platform, hook):
    platform.add_file("x", b"x", MINE, folder="../..")
    selection = Selection.checked(
        volume="demo/results", project=MINE, recursive=True, location_pattern="in/{path}/{name}"
    )
    with pytest.raises(SevenBridgesInputError, match=r"in/\.\./\.\./x"):
        plan(selection, list_selected(hook, selection))


def test_what_is_not_there(platform, select):
    with pytest.raises(SevenBridgesNotFoundError):
        select(project="me/nothing")
    with pytest.raises(SevenBridgesApiError):
        select(folder=VCF)


# Lists that change while they are read


def once_after(platform, count, change):
    """Change something when the list is asked for the nth time."""
    seen = []

    def on_request(record):
        if record.path == "/v2/files":
            seen.append(record)
            if len(seen) == count:
                change()

    platform.on("request", on_request)


def test_what_moved_to_an_earlier_page_is_found(platform, select):
    many(platform, 250)
    files = platform.platform.files
    first = next(each for each in files.values() if each.project == MINE and each.type == "file")
    once_after(platform, 2, lambda: files.pop(first.id))
    found = select(project=MINE)
    assert len(found) == 249
    assert "/first" not in found
    assert len(select.requests) == 6


def test_what_moved_to_a_later_page_is_taken_once(platform, select):
    many(platform, 250)
    files = platform.platform.files
    root = platform.platform.projects[MINE].root_folder

    def come_first():
        old = dict(files)
        files.clear()
        files.update({"f" * 24: File("f" * 24, "new.bam", MINE, root), **old})

    once_after(platform, 2, come_first)
    assert len(select(project=MINE)) == 251
    assert len(select.requests) == 6


def test_a_list_that_always_changes_is_told(platform, select, logged):
    many(platform, 150)
    root = platform.platform.projects[MINE].root_folder

    def come(record):
        number = f"{len(platform.platform.files):024x}"
        platform.platform.files[number] = File(number, f"new{number}", MINE, root)

    platform.on("request", come)
    assert len(select(project=MINE)) >= 150
    assert len(select.requests) == 6
    assert "me/p changed each time" in logged()


# Given ids


def test_files_by_their_ids(platform, select):
    platform.platform.add_project(MINE)
    ids = [platform.add_file(f"{n}.txt", b"x", MINE).id for n in range(120)]
    assert len(select(file_ids=ids, location_pattern="{name}")) == 120
    assert select.requests == ["POST bulk/files/get"] * 2
    assert select(file_ids=[BAM, VCF, REPORT], name="*.bam", location_pattern="{name}") == ["/NA12878.bam"]


def test_the_folders_of_files_by_their_ids(platform, select):
    tree(platform)
    ids = [file.id for file in platform.platform.files.values() if file.project == MINE and file.type == "file"]
    assert sorted(select(file_ids=[BAM, *ids])) == [
        "/top.bam",
        "a/b/two.bam",
        "a/b/two.txt",
        "a/one.bam",
        "alignments/NA12878.bam",
        "c/c.bam",
    ]
    # The files, the folders that they are in, and what is above these.
    assert select.requests == ["POST bulk/files/get"] * 3


def test_folders_that_are_in_each_other_have_an_end(platform, select):
    tree(platform)
    inner, outer = (platform.platform.folder_at(path, MINE) for path in ("a/b", "a"))
    outer.parent = inner.id
    file = next(file for file in platform.platform.files.values() if file.name == "two.bam")
    assert select(file_ids=[file.id]) == ["a/b/two.bam"]


def test_ids_that_cannot_be_used_are_all_named(platform, select):
    hidden = platform.add_file("x", b"x", MINE, forbidden=True).id
    with pytest.raises(SevenBridgesInputError) as caught:
        select(file_ids=["f" * 24, BAM, hidden])
    assert [problem.split(" cannot be seen")[0] for problem in caught.value.problems] == [
        f"file_ids: {'f' * 24}",
        f"file_ids: {hidden}",
    ]
    with pytest.raises(SevenBridgesInputError, match=f"{ALIGNMENTS} is the folder 'alignments'"):
        select(file_ids=[BAM, ALIGNMENTS])
    platform.platform.files[ALIGNMENTS].forbidden = True
    with pytest.raises(SevenBridgesInputError, match=f"location_pattern: {{path}}: {ALIGNMENTS} cannot be seen"):
        select(file_ids=[BAM])
    assert select(file_ids=[BAM], location_pattern="{name}") == ["/NA12878.bam"]


def test_trouble_is_no_wrong_id(platform, select, monkeypatch):
    monkeypatch.setattr(
        SevenBridgesHook, "get_files", lambda hook, ids: [SevenBridgesServerError(503, 5000)] * len(ids)
    )
    with pytest.raises(SevenBridgesServerError):
        select(file_ids=[BAM])


# Index files


def names(found):
    return [each.rpartition("/")[2] for each in found]


def test_index_files_come_along(platform, select):
    for name in ("a.bam", "a.bai", "b.cram", "b.cram.crai", "c.vcf.gz", "c.vcf.gz.tbi", "d.bam", "e.bai", "a.bam.txt"):
        platform.add_file(name, b"x", MINE, tags=() if "ai" in name else ("final",))
    platform.add_file("a.bam.bai", b"x", MINE, folder="elsewhere")
    found = select(project=MINE, name="*.{bam,cram,gz}", secondary_files=True, tags="final")
    assert names(found) == ["a.bam", "a.bai", "b.cram", "b.cram.crai", "c.vcf.gz", "c.vcf.gz.tbi", "d.bam"]
    assert select.requests == ["GET files"]
    owners = {each.file.name: each.belongs_to.name for each in select.found if each.belongs_to}
    assert owners == {"a.bai": "a.bam", "b.cram.crai": "b.cram", "c.vcf.gz.tbi": "c.vcf.gz"}


def test_an_index_that_is_selected_itself_is_taken_once(platform, hook, select):
    for name in ("a.bai", "a.bam.bai", "a.bam", "lonely.bai"):
        platform.add_file(
            name, b"x", MINE, folder="runs", metadata={"s": "1"} if name in ("a.bam", "lonely.bai") else {}
        )
    assert select(project=MINE, secondary_files=True, recursive=True) == [
        "runs/a.bam",
        "runs/a.bam.bai",
        "runs/a.bai",
        "runs/lonely.bai",
    ]
    selection = Selection.checked(
        volume="demo/results",
        project=MINE,
        recursive=True,
        secondary_files=True,
        location_pattern="{metadata[s]}/{path}/{name}",
    )
    assert [each.request.location for each in plan(selection, select.found)] == [
        "1/runs/a.bam",
        "1/runs/a.bam.bai",
        "1/runs/a.bai",
        "1/runs/lonely.bai",
    ]


def test_what_the_platform_lists_comes_along(platform, select, logged):
    far = platform.add_file("dictionary.dict", b"x", MINE, folder="far").id
    near = platform.add_file("near.fai", b"x", MINE).id
    hidden = platform.add_file("hidden.fai", b"x", MINE, forbidden=True, folder="far").id
    folder = platform.platform.folder_at("far", MINE).id
    platform.add_file("a.fasta", b"x", MINE, secondary=(far, near, hidden, folder))
    platform.add_file("b.txt", b"x", MINE, secondary=(REFERENCE,))
    assert select(project=MINE, name="*.fasta", secondary_files=True) == ["/a.fasta", "/dictionary.dict", "/near.fai"]
    assert select.requests == ["GET files", "POST bulk/files/get"]
    assert f"secondary file {hidden} cannot be seen" in logged()
    assert select(project=MINE, name="*.fasta") == ["/a.fasta"]
    platform.add_file("b.fasta", b"x", MINE, secondary=(near,))
    assert select(project=MINE, name="b.fasta", secondary_files=True) == ["/b.fasta", "/near.fai"]
    assert select.requests == ["GET files"]


def test_trouble_is_no_hidden_secondary_file(platform, select, monkeypatch):
    platform.add_file("a.fasta", b"x", MINE, secondary=("f" * 24,))
    monkeypatch.setattr(
        SevenBridgesHook, "get_files", lambda hook, ids: [SevenBridgesServerError(503, 5000)] * len(ids)
    )
    with pytest.raises(SevenBridgesServerError):
        select(project=MINE, secondary_files=True)


def test_files_that_list_each_other_are_taken_once(platform, select):
    one = platform.add_file("one", b"x", MINE)
    two = platform.add_file("two", b"x", MINE, secondary=(one.id,))
    one.secondary = (two.id, one.id)
    assert select(project=MINE, secondary_files=True) == ["/one", "/two"]


def test_index_files_of_given_ids(platform, select):
    assert select(file_ids=[BAM, VCF], secondary_files=True, location_pattern="{name}") == [
        "/NA12878.bam",
        "/NA12878.bam.bai",
        "/NA12878.vcf",
    ]
    assert select.requests == ["POST bulk/files/get", "GET files", "GET files"]
    assert [each.file.id for each in select.found] == [BAM, BAM_INDEX, VCF]
