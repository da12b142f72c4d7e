from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider.api.models import File, Volume
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.destination import same_place
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.selection import (
    Selected,
    Selection,
    check_batch,
    index_names,
    is_index,
    plan,
    read_exports,
)

ID = "567890abc9b0307bc0414164"
OTHER = "567890abc9b0307bc0414165"
TASK = "0d0e6f3c-5b1e-4f6a-9a6e-000000000001"


def selection(**fields):
    if not {"project", "folder", "file_ids"} & fields.keys():
        fields["project"] = "me/p"
    return Selection.checked(**{"volume": "me/out", **fields})


def problems_of(call, *arguments, **fields):
    with pytest.raises(SevenBridgesInputError) as caught:
        call(*arguments, **fields)
    return list(caught.value.problems)


def file(name="a.bam", **fields):
    return File(**{"id": ID, "name": name, "project": "me/p", **fields})


# What is given


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("project", "genomics", ["'genomics'", "rfranklin/my-project"]),
        ("project", "/genomics", ["rfranklin/my-project"]),
        ("project", 7, ["7"]),
        ("volume", "out", ["owner/name"]),
        ("recursive", "perhaps", ["'perhaps'", "true or false"]),
        ("name", "runs/*.bam", ["slash"]),
        ("name", ["*.bam", "{"], ["'{'", "not closed"]),
        ("name", 3, ["3", "list of texts"]),
        ("name", ["a", 3], ["list of texts"]),
        ("name", ["a", ""], ["list of texts"]),
        ("name", [], ["empty"]),
        ("tags", "[]", ["empty"]),
        ("metadata", {}, ["{}", "empty"]),
        ("tags", {"final": 1}, ["list of texts"]),
        ("metadata", "sample_id", ["'sample_id'", "mapping"]),
        ("metadata", ["sample_id"], ["mapping"]),
        ("metadata", {"sample_id": None}, ["sample_id", "one value or several"]),
        ("metadata", {"sample_id": []}, ["sample_id", "one value or several"]),
        ("metadata", {"": "x"}, ["''"]),
        ("origin_task", 5, ["5", "task"]),
        ("origin_task", " x", ["' x'"]),
        ("location_pattern", "{nmae}", ["'{nmae}'", "{name}"]),
        ("location_pattern", None, ["None", "{path}/{name}"]),
        ("location_pattern", "", ["''", "{path}/{name}"]),
        ("secondary_files", 2, ["2", "true or false"]),
        ("overwrite", "x", ["'x'"]),
        ("copy_only", "x", ["'x'"]),
        ("properties", "x", ["JSON"]),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_the_fix(field, value, words):
    (problem,) = problems_of(selection, **{field: value})
    assert problem.startswith(f"{field}: ")
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"project": None}, "none of them"),
        ({"project": "", "folder": "None"}, "none of them"),
        ({"project": "me/p", "folder": ID}, f"project='me/p', folder='{ID}'"),
        ({"folder": ID, "file_ids": [OTHER]}, f"file_ids=['{OTHER}']"),
    ],
)
def test_one_place_to_look_is_given(given, told):
    (problem,) = problems_of(selection, **given)
    assert problem.startswith("project, folder, file_ids: ")
    assert told in problem


@pytest.mark.parametrize("given", ["567890", [], "[]", {"a": 1}, [ID, "x", 3]])
def test_file_ids_that_are_none(given):
    (problem,) = problems_of(selection, file_ids=given)
    assert problem.startswith("file_ids: ")


def test_all_wrong_fields_are_told_at_once():
    told = problems_of(selection, project="x", volume="y", recursive="z", name="{", location_pattern="/")
    assert [problem.partition(":")[0] for problem in told] == [
        "volume",
        "project",
        "recursive",
        "name",
        "location_pattern",
    ]


def test_fields_as_templates_make_them():
    plain = selection(
        recursive=True,
        name=["*.bam", "*.cram"],
        tags=["final"],
        metadata={"sample_id": ["s1", "7"], "paired": "true"},
        origin_task=TASK,
        secondary_files=False,
    )
    for write in (json.dumps, repr):
        text = selection(
            recursive="True",
            name=write(["*.bam", "*.cram"]),
            tags=write(["final"]),
            metadata=write({"sample_id": ["s1", 7], "paired": True}),
            origin_task=TASK,
            secondary_files="false",
        )
        assert text == plain
        assert selection(file_ids=write([ID, OTHER])).file_ids == (ID, OTHER)
    nothing = selection(name="None", tags="", metadata="None", origin_task="", file_ids="None", project="me/p")
    assert nothing == selection()
    assert selection(name="[ab]*").name.globs == ("[ab]*",)
    assert selection(name="[1]").name.globs == ("[1]",)


def test_file_ids_are_a_set_in_order():
    assert selection(file_ids=[OTHER, ID, OTHER.upper()]).file_ids == (OTHER, ID)
    assert selection(file_ids=ID).file_ids == (ID,)


def test_a_selection_tells_itself():
    told = str(selection(recursive=True, name=["*.bam", "x"], tags="t", metadata={"s": "1"}, origin_task="task"))
    assert told == "project me/p, with all folders below, name *.bam or x, tag t, s 1, of task task"
    assert str(selection(folder=ID)) == f"folder {ID}"
    assert str(selection(file_ids=[ID, OTHER])) == "2 file ids"


# Which files


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"name": "*.bam"}, True),
        ({"name": "*.BAM"}, False),
        ({"tags": "final"}, True),
        ({"tags": ["x", "final"]}, True),
        ({"tags": "Final"}, False),
        ({"metadata": {"sample_id": "s1"}}, True),
        ({"metadata": {"sample_id": ["s0", "s1"], "n": 7, "paired": True}}, True),
        ({"metadata": {"sample_id": "s1", "missing": "x"}}, False),
        ({"metadata": {"sample_id": "s"}}, False),
        ({"metadata": {"kinds": "b"}}, True),
        ({"metadata": {"none": "None"}}, False),
        ({"origin_task": TASK}, True),
        ({"origin_task": "another"}, False),
        ({"name": "*.bam", "tags": "other"}, False),
    ],
)
def test_a_file_matches_if_all_hold(fields, fits):
    metadata = {"sample_id": "s1", "n": 7, "paired": True, "kinds": ["a", "b"], "none": None}
    found = file(tags=("final", "qc"), metadata=metadata, origin_task=TASK)
    assert selection(**fields).matches(found) is fits


def test_what_is_not_known_does_not_match():
    bare = File(ID)
    assert selection().matches(bare)
    for fields in ({"name": "*"}, {"tags": "t"}, {"metadata": {"a": "b"}}, {"origin_task": TASK}):
        assert not selection(**fields).matches(bare)
    assert not selection().matches(file(type="folder"))


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.bam", ["a.bam.bai", "a.bai"]),
        ("a.cram", ["a.cram.crai", "a.crai"]),
        ("a.vcf.gz", ["a.vcf.gz.tbi", "a.vcf.gz.csi"]),
        ("a.vcf", ["a.vcf.idx"]),
    ],
)
def test_names_of_index_files(name, names):
    assert set(names) <= set(index_names(name))
    assert all(is_index(each) for each in index_names(name))
    assert all(index_names(each) == [] for each in names)
    assert not is_index(name)
    assert not is_index(None)


# Where they go


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.bam", "a", ".bam"),
        ("a.b.vcf.gz", "a.b", ".vcf.gz"),
        ("a.gz", "a", ".gz"),
        ("a.bam.bai", "a.bam", ".bai"),
        ("README", "README", ""),
        (".hidden", ".hidden", ""),
        (".hidden.gz", ".hidden", ".gz"),
        ("a.", "a.", ""),
    ],
)
def test_stem_and_suffix(name, stem, suffix):
    assert selection(location_pattern="{stem}").location_of(file(name)) == stem
    assert selection(location_pattern="x{suffix}").location_of(file(name)) == f"x{suffix}"


def test_an_index_lies_beside_its_file():
    main = file("a.bam", metadata={"sample_id": "s1"})
    for name in ("a.bam.bai", "a.bai"):
        index = file(name, id=OTHER, metadata={"sample_id": "another"})
        for pattern, location in {
            "{path}/{name}": f"x/{name}",
            "{metadata[sample_id]}/{name}": f"s1/{name}",
            "{metadata[sample_id]}{suffix}": f"s1{name[1:]}",
            "{stem}/{name}": f"a/{name}",
            "{id}{suffix}": f"{ID}{name[1:]}",
        }.items():
            assert selection(location_pattern=pattern).location_of(index, "x", main) == location
    odd = file("md5.txt", id=OTHER)
    assert selection(location_pattern="{stem}{suffix}").location_of(odd, "", main) == "md5.txt"


TEXTS = st.text(alphabet="ab./\\", max_size=5)
PARTS = st.sampled_from(
    ["{name}", "{stem}", "{suffix}", "{metadata[m]}", "{project}", "{id}", "x", ".", "/", "/{path}/"]
)


@given(st.lists(PARTS, max_size=6).map("".join), TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3).map("/".join))
def test_a_location_never_escapes_its_folder(pattern, name, value, project, path):
    try:
        chosen = selection(location_pattern=f"out/{pattern}")
        location = chosen.location_of(file(name, metadata={"m": value}, project=f"me/{project}"), path)
    except (SevenBridgesInputError, ValueError):
        return
    assert location.startswith("out/")
    assert posixpath.normpath(location) == location
    folders = pattern.replace("/{path}/", f"/{path}/" if path else "/").count("/") if pattern else 0
    assert location.count("/") == 1 + folders


def test_a_plan_has_one_export_for_each_file():
    chosen = selection(overwrite="true", copy_only="true", properties={"sse_algorithm": None})
    files = [file("a.bam"), file("b.bam", id=OTHER)]
    planned = plan(chosen, [Selected(files[0], "x"), Selected(files[1])])
    options = {"overwrite": True, "copy_only": True, "properties": {"sse_algorithm": None}}
    assert [each.request for each in planned] == [
        ExportRequest(ID, "me/out", "x/a.bam", **options),
        ExportRequest(OTHER, "me/out", "b.bam", **options),
    ]
    assert [(each.file, each.path) for each in planned] == [(files[0], "x"), (files[1], "")]


def test_every_file_that_cannot_go_is_named():
    chosen = selection(location_pattern="{metadata[s]}/{name}")
    files = [file(f"{n}.bam", metadata={"s": "x"} if n % 2 else {}) for n in range(60)]
    files[1] = file("bad\nname", metadata={"s": "x"})
    told = problems_of(plan, chosen, [Selected(each) for each in files])
    assert len(told) == 21
    assert told[0].startswith(f"file 0.bam ({ID}): location_pattern: {{metadata[s]}} is missing or empty")
    assert told[1].startswith(f"file bad\nname ({ID}): location: 'x/bad\\nname' holds line breaks")
    assert told[20] == "and 11 more."


# A list of exports

GOOD = {"file": ID, "volume": "me/out", "location": "a.bam"}


class Lazy(Sequence):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        raise AssertionError("a lazy sequence must be read once, not counted")

    def __getitem__(self, number):
        return self.items[number]


@pytest.mark.parametrize("form", [list, tuple, json.dumps, repr, Lazy])
def test_a_list_of_exports_as_templates_and_xcom_make_it(form):
    exports = [GOOD, {**GOOD, "file": OTHER, "location": "b", "overwrite": True, "copy_only": True, "properties": None}]
    assert read_exports(form(exports)) == [
        ExportRequest(ID, "me/out", "a.bam"),
        ExportRequest(OTHER, "me/out", "b", overwrite=True, copy_only=True),
    ]


def test_wrong_exports_are_named_by_place_and_field():
    told = problems_of(read_exports, [GOOD, {"file": ID}, "x", {**GOOD, "loction": "a", "location": "/a"}])
    assert [problem.partition(": ")[0] for problem in told] == [
        "exports[1].volume",
        "exports[1].location",
        "exports[2]",
        "exports[3].loction",
        "exports[3].location",
    ]
    assert "use file, volume, location, overwrite, copy_only, properties" in told[3]


@pytest.mark.parametrize("given", [None, "", "None", "a.bam", GOOD, json.dumps(GOOD), 5, "[", b"[]", "[" * 10_000])
def test_what_is_no_list_is_told(given):
    (problem,) = problems_of(read_exports, given)
    assert problem.startswith("exports: ")
    assert len(problem) < 300


def test_an_empty_list_is_refused_with_the_set():
    assert read_exports("[]") == []


# The set

VOLUMES = {
    "me/out": Volume("me/out", service="s3", bucket="b", prefix="runs"),
    "me/whole": Volume("me/whole", service="s3", bucket="b"),
    "me/other": Volume("me/other", service="s3", bucket="c"),
    "me/gcs": Volume("me/gcs", service="gcs", bucket="b"),
}


def request(number, volume="me/out", location=None):
    return ExportRequest(f"{number:024x}", volume, location or f"{number}.bam")


def test_a_set_that_is_fine():
    check_batch([request(n) for n in range(100)], VOLUMES, 100)
    check_batch([request(1), request(2, "me/other", "1.bam"), request(3, "me/gcs", "runs/1.bam")], VOLUMES)
    check_batch([request(1), request(2, "unseen/v", "1.bam")], {})


def test_an_empty_set_and_a_large_one_are_refused():
    assert "nothing to export" in problems_of(check_batch, [], VOLUMES)[0]
    (problem,) = problems_of(check_batch, [request(n) for n in range(101)], VOLUMES, 100)
    assert problem.startswith("max_files: there are 101 files")
    assert "more than 100" in problem


def test_a_file_twice_is_refused():
    (problem,) = problems_of(check_batch, [request(1), request(2), request(1, location="x")], VOLUMES)
    assert f"{1:024x}" in problem
    assert "s3://b/runs/1.bam" in problem
    assert "s3://b/runs/x" in problem
    (problem,) = problems_of(check_batch, [request(1), request(1)], VOLUMES)
    assert "twice" in problem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("me/out", "x"), ("me/out", "x")),
        (("me/out", "x"), ("me/whole", "runs/x")),
        (("me/whole", "runsx"), ("me/out", "x")),
        (("unseen/v", "x"), ("unseen/v", "x")),
    ],
)
def test_two_exports_to_one_place_are_refused(one, other):
    (problem,) = problems_of(check_batch, [request(1, *one), request(2), request(3, *other)], VOLUMES)
    assert f"{1:024x} and {3:024x}" in problem
    assert same_place(one, other, VOLUMES)


@given(
    st.lists(st.tuples(st.sampled_from([*VOLUMES, "unseen/v"]), st.sampled_from(["x", "runs/x", "runsx"])), min_size=2)
)
def test_places_are_compared_as_pairs_are(wanted):
    pairs = [(one, other) for n, one in enumerate(wanted) for other in wanted[:n]]
    requests = [request(n, *place) for n, place in enumerate(wanted)]
    try:
        check_batch(requests, VOLUMES)
        refused = False
    except SevenBridgesInputError:
        refused = True
    assert refused == any(same_place(one, other, VOLUMES) for one, other in pairs)
