from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider.api.models import File, Volume
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.destination import same_place
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.selection import (
    PlannedExport,
    Selected,
    Selection,
    check_count,
    plan,
    read_exports,
    with_conflicts,
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


# Parameters


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
        ("name", 3.0, ["3.0 is a number", "native rendering"]),
        ("name", True, ["True is a boolean"]),
        ("name", ["a", 1e23], ["1e+23 is a number", "list of texts"]),
        ("name", ["a", ["b"]], ["['b']", "list of texts"]),
        ("name", b"a", ["b'a'", "list of texts"]),
        ("tags", [None], ["None", "list of texts"]),
        ("tags", set(), ["empty"]),
        ("tags", (each for each in ()), ["empty"]),
        ("name", ["a", ""], ["list of texts"]),
        ("name", [], ["empty"]),
        ("tags", "[]", ["empty"]),
        ("metadata", {}, ["{}", "empty"]),
        ("tags", {"final": 1}, ["list of texts"]),
        ("metadata", "sample_id", ["'sample_id'", "mapping"]),
        ("metadata", ["sample_id"], ["mapping"]),
        ("metadata", {"sample_id": None}, ["sample_id", "one or several values"]),
        ("metadata", {"sample_id": []}, ["sample_id", "one or several values"]),
        ("metadata", {"": "x"}, ["''"]),
        ("origin_task", 5.0, ["5.0", "task"]),
        ("metadata", {"s": 1e23}, ["s: 1e+23 is a number", "native rendering"]),
        ("metadata", {"s": {"a": "b"}}, ["s: {'a': 'b'}"]),
        ("metadata", {"s": b"S1"}, ["s: b'S1'"]),
        ("project", 1.5, ["1.5 is a number"]),
        ("folder", 5.6e22, ["5.6e+22 is a number: native rendering"]),
        ("origin_task", " x", ["' x'"]),
        ("location_pattern", "{title}", ["'{title}'", "{name}"]),
        ("location_pattern", None, ["None", "{path}/{name}"]),
        ("location_pattern", "", ["''", "{path}/{name}"]),
        ("location_pattern", "None", ["'None'", "{path}/{name}"]),
        ("location_pattern", 1e5, ["100000.0 is a number"]),
        ("location_pattern", "s3://bucket/{name}", ["is an address", "write '{name}'"]),
        ("secondary_files", 2, ["2", "true or false"]),
        ("overwrite", "x", ["'x'"]),
        ("copy_only", "x", ["'x'"]),
        ("properties", "x", ["JSON"]),
    ],
)
def test_an_invalid_value_is_reported_with_its_field_and_the_fix(field, value, words):
    (problem,) = problems_of(selection, **{field: value})
    assert problem.startswith(f"{field}: ")
    for word in words:
        assert word in problem


def test_numbers_from_native_rendering_are_accepted():
    number = int("1" * 24)
    assert selection(folder=number).folder == "1" * 24
    assert selection(file_ids=number).file_ids == ("1" * 24,)
    assert selection(file_ids=[number, ID]).file_ids == ("1" * 24, ID)
    chosen = selection(name=[7, "a"], tags=2024, metadata={"n": [7, "8"], "m": 5}, origin_task=12)
    assert (chosen.name.globs, chosen.tags, chosen.origin_task) == (("7", "a"), ("2024",), "12")
    assert chosen.metadata == {"n": ("7", "8"), "m": ("5",)}
    assert selection(location_pattern=2024).location_pattern.text == "2024"


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        set,
        frozenset,
        iter,
        lambda items: (each for each in items),
        lambda items: dict.fromkeys(items).keys(),
        lambda items: dict(enumerate(items)).values(),
        lambda items: Lazy(items),
    ],
)
def test_any_iterable_is_a_list(form):
    assert selection(file_ids=form([ID, OTHER])).file_ids == (ID, OTHER)
    assert selection(tags=form(["a", "b"])).tags == ("a", "b")
    assert selection(name=form(["None", "b"])).name.globs == ("None", "b")
    assert selection(metadata={"s": form(["1", "2"])}).metadata == {"s": ("1", "2")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"project": None}, "none of them"),
        ({"project": "", "folder": "None"}, "none of them"),
        ({"project": "me/p", "folder": ID}, f"project='me/p', folder='{ID}'"),
        ({"folder": ID, "file_ids": [OTHER]}, f"file_ids=['{OTHER}']"),
    ],
)
def test_exactly_one_of_project_folder_and_file_ids_is_required(given, words):
    (problem,) = problems_of(selection, **given)
    assert problem.startswith("project, folder, file_ids: ")
    assert words in problem


@pytest.mark.parametrize("given", ["567890", {"a": 1}, [ID, "x", 3]])
def test_invalid_file_ids_are_reported(given):
    (problem,) = problems_of(selection, file_ids=given)
    assert problem.startswith("file_ids: ")


def test_all_invalid_fields_are_reported_together():
    problems = problems_of(selection, project="x", volume="y", recursive="z", name="{", location_pattern="/")
    assert [problem.partition(":")[0] for problem in problems] == [
        "volume",
        "project",
        "recursive",
        "name",
        "location_pattern",
    ]


def test_fields_from_rendered_templates():
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


def test_duplicate_file_ids_are_dropped_in_order():
    assert selection(file_ids=[OTHER, ID, OTHER.upper()]).file_ids == (OTHER, ID)
    assert selection(file_ids=ID).file_ids == (ID,)


def test_a_selection_describes_itself():
    text = str(selection(recursive=True, name=["*.bam", "x"], tags="t", metadata={"s": "1"}, origin_task="task"))
    assert text == "project me/p, with all folders below, name *.bam or x, tag t, s 1, of task task"
    assert str(selection(folder=ID)) == f"folder {ID}"
    assert str(selection(file_ids=[ID, OTHER])) == "2 file ids"


# Matching


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
def test_a_file_matches_if_all_conditions_hold(fields, fits):
    metadata = {"sample_id": "s1", "n": 7, "paired": True, "kinds": ["a", "b"], "none": None}
    found = file(tags=("final", "qc"), metadata=metadata, origin_task=TASK)
    assert selection(**fields).matches(found) is fits


def test_a_missing_field_does_not_match():
    bare = File(ID)
    assert selection().matches(bare)
    for fields in ({"name": "*"}, {"tags": "t"}, {"metadata": {"a": "b"}}, {"origin_task": TASK}):
        assert not selection(**fields).matches(bare)
    assert not selection().matches(file(type="folder"))


# Locations


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


def test_an_index_is_exported_next_to_its_file():
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


def test_a_file_that_cannot_be_exported_is_named_and_affects_only_itself():
    chosen = selection(location_pattern="{metadata[s]}/{name}")
    files = [file(f"{n}.bam", metadata={"s": "x"} if n % 2 else {}) for n in range(60)]
    files[1] = file("bad\nname", metadata={"s": "x"})
    planned = plan(chosen, [*map(Selected, files), Selected(File(OTHER), problem="gone")])
    assert [each.request.location for each in planned if not each.problem] == [f"x/{n}.bam" for n in range(3, 60, 2)]
    assert planned[0].problem.startswith("location_pattern: {metadata[s]} is missing or empty")
    assert planned[1].problem.startswith("location_pattern: 'x/bad\\nname' contains U+000A at position 6")
    assert planned[60].problem == "gone"


# Keys of S3 and GCS

TAKEN = [
    "Screenshot 2026-05-12 at 4.42.48\u202fPM.png",
    "a\u00a0b",
    "\U0001f469\u200d\U0001f52c.txt",
    "soft\u00adhyphen",
    "\u3000ideographic\u3000",
    "\u2028line\u2029paragraph",
    "right\u202eleft",
    "\ufeffmark",
    "e\u0301 and \u00e9",
    "\ue000private",
    "\U0010fffd",
    " outer ",
    "back\\slash",
    "?*#%[]{}<>|\"'`~&$@=;:+,",
    "...",
    "run:",
]


@pytest.mark.parametrize("name", TAKEN)
def test_every_valid_name_is_kept(name):
    (planned,) = plan(selection(), [Selected(file(name), "run:")])
    assert (planned.problem, planned.request.location) == ("", f"run:/{name}")
    (planned,) = plan(selection(location_pattern="{metadata[s]}/x"), [Selected(file(metadata={"s": name}))])
    assert (planned.problem, planned.request.location) == ("", f"{name}/x")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\x00", "U+0000 at position 4, a control character"),
        ("\ra", "U+000D at position 3"),
        ("a\tb", "U+0009 at position 4"),
        ("a\x7f", "U+007F at position 4"),
        ("a\x85b", "U+0085 at position 4"),
        ("a\x9f", "U+009F at position 4"),
        ("abc\ud800", "U+D800 at position 6, a lone surrogate"),
        ("a\uffff", "U+FFFF at position 4"),
        ("\u00e9" * 512, "longer than 1024 bytes"),
    ],
)
def test_a_name_that_is_not_a_valid_key_affects_only_its_file(name, words):
    chosen = selection(location_pattern="x/{name}")
    bad, good = plan(chosen, [Selected(file(name)), Selected(file("b", id=OTHER))])
    assert words in bad.problem
    assert not good.problem
    (bad,) = plan(selection(location_pattern="x/{metadata[s]}"), [Selected(file(metadata={"s": name}))])
    assert words in bad.problem


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
def test_a_list_of_exports_from_templates_and_xcom(form):
    exports = [GOOD, {**GOOD, "file": OTHER, "location": "b", "overwrite": True, "copy_only": True, "properties": None}]
    assert [each.request for each in read_exports(form(exports))] == [
        ExportRequest(ID, "me/out", "a.bam"),
        ExportRequest(OTHER, "me/out", "b", overwrite=True, copy_only=True),
    ]


def test_invalid_exports_are_reported_by_index_and_field():
    problems = problems_of(read_exports, [GOOD, {"file": ID}, "x", {**GOOD, "place": "a", "location": "/a"}])
    assert [problem.partition(": ")[0] for problem in problems] == [
        "exports[1].volume",
        "exports[1].location",
        "exports[2]",
        "exports[3].place",
    ]
    assert "use file, volume, location, overwrite, copy_only, properties" in problems[3]


@pytest.mark.parametrize("location", ["/a", "a/", "a\nb", "s3://b/x", " a", "a\ud800", ".."])
def test_a_location_that_is_not_a_valid_key_affects_only_its_file(location):
    bad, good = read_exports([{**GOOD, "location": location}, {**GOOD, "file": OTHER}])
    assert bad.problem.startswith("location: ")
    assert (bad.request.file, bad.request.location) == (ID, location)
    assert (good.problem, good.request) == ("", ExportRequest(OTHER, "me/out", "a.bam"))


@pytest.mark.parametrize("given", [None, "", "None", "a.bam", GOOD, json.dumps(GOOD), 5, "[", b"[]", "[" * 10_000])
def test_a_value_that_is_not_a_list_is_reported(given):
    (problem,) = problems_of(read_exports, given)
    assert problem.startswith("exports: ")
    assert len(problem) < 300


def test_an_empty_list_is_read():
    assert read_exports("[]") == []


# Conflicts

VOLUMES = {
    "me/out": Volume("me/out", service="s3", bucket="b", prefix="runs"),
    "me/whole": Volume("me/whole", service="s3", bucket="b"),
    "me/other": Volume("me/other", service="s3", bucket="c"),
    "me/gcs": Volume("me/gcs", service="gcs", bucket="b"),
}


def request(number, volume="me/out", location=None):
    return ExportRequest(f"{number:024x}", volume, location or f"{number}.bam")


def conflicts(requests, volumes=VOLUMES):
    return [each.problem for each in with_conflicts([PlannedExport(request) for request in requests], volumes)]


def test_exports_without_conflicts():
    assert not any(conflicts([request(n) for n in range(100)]))
    assert not any(conflicts([request(1), request(2, "me/other", "1.bam"), request(3, "me/gcs", "runs/1.bam")]))
    assert not any(conflicts([request(1), request(2, "unseen/v", "1.bam")], {}))


def test_more_than_the_largest_number_is_rejected():
    check_count(0, 5)
    check_count(100, 100)
    check_count(10**6, None)
    (problem,) = problems_of(check_count, 101, 100)
    assert problem.startswith("max_files: there are 101 files")
    assert "more than 100" in problem


def test_a_file_that_is_moved_twice_affects_only_itself():
    first, other, second = conflicts([request(1), request(2), request(1, location="x")])
    assert other == ""
    assert first == second
    for word in (f"{1:024x}", "s3://b/runs/x", "s3://b/runs/1.bam", "then move it"):
        assert word in first
    assert all("has two exports" in problem for problem in conflicts([request(1), request(1)]))
    assert all("has two exports" in problem for problem in conflicts([copy(1), request(1, "me/other")]))


def test_a_file_may_be_copied_to_several_places():
    assert not any(conflicts([copy(1), copy(1, "me/other"), copy(1, location="second")]))
    one, other, fine = conflicts([copy(1), copy(1, "me/whole", "runs/1.bam"), copy(1, "me/other")])
    assert "give it once" in one
    assert "give it once" in other
    assert fine == ""


def test_ten_thousand_exports_of_one_file_are_checked_quickly():
    assert all(conflicts([request(1)] * 10_000))


@pytest.mark.parametrize(
    ("volume", "location", "words"),
    [
        ("me/out", "x" * 1020, "longer than 1024 bytes"),
        ("me/gcs", ".well-known/acme-challenge/x", "Google Cloud Storage does not allow keys"),
    ],
)
def test_a_key_that_the_volume_does_not_allow_affects_only_its_file(volume, location, words):
    bad, good = conflicts([request(1, volume, location), request(2)])
    assert words in bad
    assert good == ""
    assert not any(conflicts([request(1, "me/other", location)]))


def copy(number, *place, **fields):
    return replace(request(number, *place, **fields), copy_only=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("me/out", "x"), ("me/out", "x")),
        (("me/out", "x"), ("me/whole", "runs/x")),
        (("me/whole", "runsx"), ("me/out", "x")),
        (("unseen/v", "x"), ("unseen/v", "x")),
    ],
)
def test_two_exports_to_one_object_both_have_a_conflict(one, other):
    first, fine, second = conflicts([request(1, *one), request(2), request(3, *other)])
    assert f"files {1:024x} and {3:024x}" in first
    assert f"files {3:024x} and {1:024x}" in second
    assert fine == ""
    assert same_place(one, other, VOLUMES)


@given(
    st.lists(st.tuples(st.sampled_from([*VOLUMES, "unseen/v"]), st.sampled_from(["x", "runs/x", "runsx"])), min_size=2)
)
def test_conflicts_are_found_as_in_a_comparison_of_all_pairs(wanted):
    problems = conflicts([request(n, *place) for n, place in enumerate(wanted)])
    for number, place in enumerate(wanted):
        others = wanted[:number] + wanted[number + 1 :]
        assert bool(problems[number]) == any(same_place(place, other, VOLUMES) for other in others)
