"""The files that a selection finds on the local Platform, and the requests it sends."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from airflow_sb_provider.api.models import Page
from airflow_sb_provider.emulator.platform import File
from airflow_sb_provider.emulator.seed import ALIGNMENTS, BAM, BAM_INDEX, PROJECT, REFERENCE, REPORT, VCF
from airflow_sb_provider.engine.listing import list_selected
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesServerError,
)
from airflow_sb_provider.exports.selection import Selection, plan
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.integration.in_process.conftest import paths

MINE = "me/p"
TASK = "0d0e6f3c-5b1e-4f6a-9a6e-000000000001"


@pytest.fixture
def hook(platform):
    return SevenBridgesHook()


@pytest.fixture
def select(platform, hook):
    """Return a function that returns the selected paths and names; its `requests` are the requests that were sent."""

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
    """Return the log; some Airflow versions log to the standard output."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + capsys.readouterr().out


def many(platform, count, **details):
    """Add files without content, which takes no time."""
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
def test_a_flat_project_is_listed_in_pages_of_a_hundred(platform, select, count, requests):
    many(platform, count)
    assert len(select(project=MINE)) == count
    assert select.requests == ["GET files"] * requests


def test_ten_thousand_files(platform, select):
    many(platform, 10_000, tags=("t",))
    assert len(select(project=MINE, name="*.bam", tags="t")) == 9_999
    assert len(select.requests) == 100


def test_filters_are_sent_to_the_platform_where_possible(platform, select):
    many(platform, 250)
    for number in range(5):
        platform.add_file(f"f{number}.bam", b"x", MINE, tags=("final",), metadata={"s": number % 2}, task=TASK)
    found = select(project=MINE, tags=["final", "x"], metadata={"s": [1, 7]}, origin_task=TASK, name="f*")
    assert found == ["/f1.bam", "/f3.bam"]
    assert select(project=MINE, name=["f1.bam", "{f2,none}.bam"]) == ["/f1.bam", "/f2.bam"]
    assert select.requests == ["GET files"]
    assert select(project=MINE, name=["f1.bam", "[f]2.bam"]) == ["/f1.bam", "/f2.bam"]
    assert len(select.requests) == 3


def test_filters_that_make_the_url_too_long_are_not_sent(platform, select):
    many(platform, 150)
    names = [f"{number}.bam" for number in range(1000)]
    assert len(select(project=MINE, name=names)) == 149
    assert len(select.requests) == 2
    assert all(len(str(record.query)) < 2500 for record in select.records)


@pytest.mark.parametrize("status", [400, 403, 404, 413, 414, 431, 500, 502, 503])
def test_when_a_gateway_rejects_the_filters_all_files_are_listed(platform, select, logged, status):
    """A gateway that rejects a long query returns its own page, which may resemble maintenance."""
    many(platform, 150)
    names = [f"{number}.bam" for number in range(20)]
    platform.trouble("html", method="GET", path="/v2/files", status=status)
    assert select(project=MINE, name=names) == [f"/{name}" for name in names]
    assert select.requests == ["GET files"] * 3
    assert "rejects the filters" in logged()


@pytest.mark.parametrize(("status", "code"), [(400, 90000), (414, 90000)])
def test_when_the_api_rejects_the_filters_all_files_are_listed(platform, select, status, code):
    many(platform, 50)
    platform.trouble("error", method="GET", path="/v2/files", status=status, code=code)
    assert select(project=MINE, tags="x", name=["1.bam"]) == []
    assert select(project=MINE, name=["1.bam"]) == ["/1.bam"]
    assert len(select.requests) == 1


def test_after_a_transient_error_the_list_is_still_filtered(platform, select, monkeypatch):
    many(platform, 250)
    monkeypatch.setattr("airflow_sb_provider.hooks.retry._pause", lambda state: 0)
    platform.trouble("error", method="GET", path="/v2/files", status=429, code=1000)
    assert select(project=MINE, name=["1.bam"]) == ["/1.bam"]
    assert len(select.requests) == 2
    platform.trouble("drop", method="GET", path="/v2/files")
    assert select(project=MINE, name=["2.bam"]) == ["/2.bam"]
    assert len(select.requests) == 2


def test_a_rejected_token_does_not_count_as_rejected_filters(platform, select):
    many(platform, 5)
    platform.trouble("error", method="GET", path="/v2/files", status=401, code=90001)
    with pytest.raises(SevenBridgesAuthError):
        select(project=MINE, name=["1.bam"])
    assert len(paths(platform)) == 1


def test_files_that_the_platform_fails_to_filter_are_not_selected(platform, select, monkeypatch):
    """A move cannot be undone, so an ignored filter must not widen a selection."""
    tree(platform)
    monkeypatch.setattr("airflow_sb_provider.emulator.routes.files._matches", lambda file, filter_, values: True)
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


def test_a_folder_that_contains_itself_is_listed_once(platform, select):
    tree(platform)
    inner, outer = (platform.platform.folder_at(path, MINE) for path in ("a/b", "a"))
    outer.parent = inner.id
    assert select(folder=outer.id, recursive=True) == ["/one.bam", "b/two.txt", "b/two.bam"]
    assert len(select.requests) == 2


def test_a_folder_name_with_a_slash_affects_only_its_files(platform, select):
    platform.add_file("top", b"x", MINE)
    odd = platform.platform.add_folder("odd", MINE)
    platform.add_file("in", b"x", MINE, folder="odd/below")
    odd.name = "a/b"
    assert names(select(project=MINE, recursive=True)) == ["top", "in"]
    assert [bool(each.problem) for each in select.found] == [False, True]
    assert "'a/b' is not valid in a path" in select.found[1].problem
    assert names(select(project=MINE, recursive=True, location_pattern="{name}")) == ["top", "in"]
    assert not any(each.problem for each in select.found)
    ids = [each.file.id for each in select.found]
    assert names(select(file_ids=ids)) == ["top", "in"]
    assert [bool(each.problem) for each in select.found] == [False, True]


def test_a_folder_named_dot_dot_affects_only_its_files(platform, hook):
    platform.add_file("x", b"x", MINE, folder="../..")
    platform.add_file("top", b"x", MINE)
    selection = Selection.checked(
        volume="demo/results", project=MINE, recursive=True, location_pattern="in/{path}/{name}"
    )
    good, bad = plan(selection, list_selected(hook, selection))
    assert (good.problem, good.request.location) == ("", "in/top")
    assert "in/../../x" in bad.problem


def test_a_project_or_folder_that_does_not_exist_raises_an_error(platform, select):
    with pytest.raises(SevenBridgesNotFoundError):
        select(project="me/nothing")
    with pytest.raises(SevenBridgesApiError):
        select(folder=VCF)


# Lists that change while they are read


def once_after(platform, count, change):
    """Call ``change`` at the nth request of the list."""
    seen = []

    def on_request(record):
        if record.path == "/v2/files":
            seen.append(record)
            if len(seen) == count:
                change()

    platform.on("request", on_request)


def test_a_file_that_moved_to_an_earlier_page_is_found(platform, select):
    many(platform, 250)
    files = platform.platform.files
    first = next(each for each in files.values() if each.project == MINE and each.type == "file")
    once_after(platform, 2, lambda: files.pop(first.id))
    found = select(project=MINE)
    assert len(found) == 249
    assert "/first" not in found
    assert len(select.requests) == 6


def test_a_file_that_moved_to_a_later_page_is_selected_once(platform, select):
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


def test_a_list_that_grows_at_each_read_is_logged(platform, select, logged):
    many(platform, 150)
    root = platform.platform.projects[MINE].root_folder

    def come(record):
        number = f"{len(platform.platform.files):024x}"
        platform.platform.files[number] = File(number, f"new{number}", MINE, root)

    platform.on("request", come)
    assert len(select(project=MINE)) >= 150
    assert len(select.requests) == 6
    assert "me/p changed each time" in logged()


def test_a_list_that_shrinks_at_each_read_is_an_error(platform, select):
    many(platform, 250)
    files = platform.platform.files

    def go(record):
        first = next(each for each in files.values() if each.project == MINE and each.type == "file")
        files.pop(first.id)

    platform.on("request", go)
    with pytest.raises(SevenBridgesApiError, match="me/p is incomplete") as caught:
        select(project=MINE)
    assert not caught.value.permanent


@pytest.fixture
def pages(monkeypatch):
    """Return a function that changes each page that the hook reads."""

    def change(how):
        read = SevenBridgesHook.send

        def send(hook, call, **options):
            answer = read(hook, call, **options)
            return how(answer) if isinstance(answer, Page) else answer

        monkeypatch.setattr(SevenBridgesHook, "send", send)

    return change


@pytest.mark.parametrize("times", [1, 2])
def test_a_truncated_list_is_read_again(platform, select, pages, times):
    many(platform, 250)
    left = [times]

    def cut(page):
        if left[0]:
            left[0] -= 1
            return replace(page, next=None)
        return page

    pages(cut)
    assert len(select(project=MINE)) == 250
    assert len(select.requests) == times + 3


def test_a_list_that_stays_truncated_is_an_error(platform, select, pages):
    many(platform, 250)
    pages(lambda page: replace(page, next=None))
    with pytest.raises(SevenBridgesApiError, match="100 of 250") as caught:
        select(project=MINE)
    assert not caught.value.permanent
    with pytest.raises(SevenBridgesApiError, match="100 of 250"):
        select(project=MINE, recursive=True)


@pytest.mark.parametrize("total", [None, 250])
def test_a_page_that_repeats_is_an_error(platform, select, pages, total):
    many(platform, 250)
    first = []

    def repeat(page):
        first.append(page)
        return replace(first[0], total=total)

    pages(repeat)
    with pytest.raises(SevenBridgesApiError, match="is incomplete"):
        select(project=MINE)
    assert len(first) == 6


def test_more_files_than_expected_end_the_listing(platform, hook):
    many(platform, 1000)
    platform.add_file("a.vcf", b"x", MINE)
    chosen = Selection.checked(volume="demo/results", project=MINE)
    with pytest.raises(SevenBridgesInputError, match="max_files: there are at least 300 files to export"):
        list_selected(hook, chosen, 250)
    assert len(platform.requests) == 3
    narrow = Selection.checked(volume="demo/results", project=MINE, name="*.vcf")
    assert len(list_selected(hook, narrow, 1)) == 1


def test_an_endless_list_is_read_up_to_a_limit_of_pages(platform, select, pages, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.engine.listing.MAX_PAGES", 5)
    many(platform, 600)
    with pytest.raises(SevenBridgesInputError, match="more than 5 pages"):
        select(project=MINE, name="*.none")
    assert len(platform.requests) == 5


# File ids


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
    # The files, their folders, and the parents of these.
    assert select.requests == ["POST bulk/files/get"] * 3


def test_the_path_of_a_folder_that_contains_itself_is_finite(platform, select):
    tree(platform)
    inner, outer = (platform.platform.folder_at(path, MINE) for path in ("a/b", "a"))
    outer.parent = inner.id
    file = next(file for file in platform.platform.files.values() if file.name == "two.bam")
    assert select(file_ids=[file.id]) == ["a/b/two.bam"]


def test_ids_that_cannot_be_exported_affect_only_themselves(platform, select):
    hidden = platform.add_file("x", b"x", MINE, forbidden=True).id
    gone = "f" * 24
    select(file_ids=[gone, BAM, hidden, ALIGNMENTS])
    problems = {each.file.id: each.problem for each in select.found}
    assert problems.keys() == {gone, BAM, hidden, ALIGNMENTS}
    assert problems[BAM] == ""
    assert f"file_ids: {gone} is not visible" in problems[gone]
    assert f"file_ids: {hidden} is not visible" in problems[hidden]
    assert f"{ALIGNMENTS} is the folder 'alignments'" in problems[ALIGNMENTS]
    platform.platform.files[ALIGNMENTS].forbidden = True
    assert sorted(select(file_ids=[BAM, VCF])) == ["/NA12878.bam", "/NA12878.vcf"]
    problems = {each.file.id: each.problem for each in select.found}
    assert f"location_pattern: {{path}}: folder {ALIGNMENTS} is not visible" in problems[BAM]
    assert problems[VCF] == ""
    assert select(file_ids=[BAM], location_pattern="{name}") == ["/NA12878.bam"]
    assert not select.found[0].problem


def test_a_server_error_does_not_count_as_an_invalid_id(platform, select, monkeypatch):
    monkeypatch.setattr(
        SevenBridgesHook, "get_files", lambda hook, ids: [SevenBridgesServerError(503, 5000)] * len(ids)
    )
    with pytest.raises(SevenBridgesServerError):
        select(file_ids=[BAM])


# Index files


def names(found):
    return [each.rpartition("/")[2] for each in found]


def test_index_files_are_selected_with_their_files(platform, select):
    for name in ("a.bam", "a.bai", "b.cram", "b.cram.crai", "c.vcf.gz", "c.vcf.gz.tbi", "d.bam", "e.bai", "a.bam.txt"):
        platform.add_file(name, b"x", MINE, tags=() if "ai" in name else ("final",))
    platform.add_file("a.bam.bai", b"x", MINE, folder="elsewhere")
    found = select(project=MINE, name="*.{bam,cram,gz}", secondary_files=True, tags="final")
    assert names(found) == ["a.bam", "a.bai", "b.cram", "b.cram.crai", "c.vcf.gz", "c.vcf.gz.tbi", "d.bam"]
    assert select.requests == ["GET files"]
    owners = {each.file.name: each.belongs_to.name for each in select.found if each.belongs_to}
    assert owners == {"a.bai": "a.bam", "b.cram.crai": "b.cram", "c.vcf.gz.tbi": "c.vcf.gz"}


def test_an_index_that_matches_the_selection_itself_is_selected_once(platform, hook, select):
    for name in ("a.bai", "a.bam.bai", "a.bam", "lonely.bai"):
        platform.add_file(
            name, b"x", MINE, folder="runs", metadata={"s": "1"} if name in ("a.bam", "lonely.bai") else {}
        )
    pattern = "{metadata[s]}/{path}/{name}"
    assert select(project=MINE, secondary_files=True, recursive=True, location_pattern=pattern) == [
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
        location_pattern=pattern,
    )
    assert [each.request.location for each in plan(selection, select.found)] == [
        "1/runs/a.bam",
        "1/runs/a.bam.bai",
        "1/runs/a.bai",
        "1/runs/lonely.bai",
    ]


def test_secondary_files_listed_by_the_platform_are_selected(platform, select, logged):
    far = platform.add_file("dictionary.dict", b"x", MINE, folder="far").id
    near = platform.add_file("near.fai", b"x", MINE).id
    hidden = platform.add_file("hidden.fai", b"x", MINE, forbidden=True, folder="far").id
    folder = platform.platform.folder_at("far", MINE).id
    platform.add_file("a.fasta", b"x", MINE, secondary=(far, near, hidden, folder))
    platform.add_file("b.txt", b"x", MINE, secondary=(REFERENCE,))
    assert select(project=MINE, name="*.fasta", secondary_files=True) == ["/a.fasta", "/dictionary.dict", "/near.fai"]
    assert select.requests == ["GET files", "POST bulk/files/get"]
    assert f"secondary file {hidden} is left out, since it is not visible" in logged()
    assert f"secondary file {hidden} is left out, since it is not visible" in select.found[0].note
    assert select(project=MINE, name="*.fasta") == ["/a.fasta"]
    platform.add_file("b.fasta", b"x", MINE, secondary=(near,))
    assert select(project=MINE, name="b.fasta", secondary_files=True) == ["/b.fasta", "/near.fai"]
    assert select.requests == ["GET files"]


def test_secondary_files_of_another_project_are_left_out(platform, select, logged):
    """A project member may list any file as belonging to one of the project's."""
    foreign = platform.add_file("theirs.bai", b"x", "me/other").id
    own = platform.add_file("own.fai", b"x", MINE, folder="far").id
    main = platform.add_file("a.bam", b"x", MINE, secondary=(foreign, own)).id
    for chosen in ({"project": MINE}, {"project": MINE, "recursive": True, "name": "a.bam"}, {"file_ids": [main]}):
        found = select(secondary_files=True, location_pattern="{name}", **chosen)
        assert names(found) == ["a.bam", "own.fai"], chosen
        assert f"secondary file {foreign} is left out, since it does not belong" in logged()
        assert foreign in select.found[0].note


def test_secondary_files_outside_of_the_folder_are_left_out(platform, select, logged):
    below = platform.add_file("below.fai", b"x", MINE, folder="in/deep").id
    beside = platform.add_file("beside.fai", b"x", MINE, folder="out").id
    above = platform.add_file("above.fai", b"x", MINE).id
    platform.add_file("a.bam", b"x", MINE, folder="in", secondary=(below, beside, above))
    folder = platform.platform.folder_at("in", MINE).id
    for recursive in (False, True):
        found = select(folder=folder, secondary_files=True, recursive=recursive, name="*.bam")
        assert names(found) == ["a.bam", "below.fai"]
        text = logged()
        assert all(f"secondary file {each} is left out, since it does not belong" in text for each in (beside, above))


def test_a_server_error_does_not_count_as_a_hidden_secondary_file(platform, select, monkeypatch):
    platform.add_file("a.fasta", b"x", MINE, secondary=("f" * 24,))
    monkeypatch.setattr(
        SevenBridgesHook, "get_files", lambda hook, ids: [SevenBridgesServerError(503, 5000)] * len(ids)
    )
    with pytest.raises(SevenBridgesServerError):
        select(project=MINE, secondary_files=True)


def test_files_that_list_each_other_are_selected_once(platform, select):
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
