from __future__ import annotations

import pytest

from airflow_sb_provider.tasks.ports import Port, SevenBridgesFile, SevenBridgesFolder, convert_inputs, file_ids

FILE, OTHER = "567890abc9b0307bc0414164", "567890abc9b0307bc0414165"
A_FILE = {"class": "File", "path": FILE}


def convert(declared, value, **port):
    return convert_inputs({"x": value}, [Port.from_json({"id": "x", "type": declared, **port})])


VALID = [
    ("string", "a", "a"),
    ("string", "", ""),
    ("string", "None", "None"),
    ("string", 7, "7"),
    ("int", 5, 5),
    ("int", "5", 5),
    ("int", " -5 ", -5),
    ("int", 5.0, 5),
    ("long", 2**40, 2**40),
    ("float", "0.5", 0.5),
    ("float", 1, 1),
    ("double", "1e-3", 0.001),
    ("boolean", True, True),
    ("boolean", "false", False),
    ("File", FILE, A_FILE),
    ("File", FILE.upper(), A_FILE),
    ("File", A_FILE, A_FILE),
    ("File", SevenBridgesFile(FILE), A_FILE),
    ("File", {"id": FILE, "name": "a.bam", "size": 3}, A_FILE),
    ("File", f"{{'class': 'File', 'path': '{FILE}'}}", A_FILE),
    ("File", {**A_FILE, "secondaryFiles": []}, {**A_FILE, "secondaryFiles": []}),
    ("File?", FILE, A_FILE),
    (["null", "File"], FILE, A_FILE),
    ("Directory", FILE, {"class": "Directory", "path": FILE}),
    ("Directory", SevenBridgesFolder(FILE), {"class": "Directory", "path": FILE}),
    ("File[]", [FILE, A_FILE], [A_FILE, A_FILE]),
    ("File[]?", [FILE], [A_FILE]),
    ({"type": "array", "items": "File"}, f"['{FILE}']", [A_FILE]),
    ({"type": "array", "items": {"type": "array", "items": "int"}}, [["1"], [2]], [[1], [2]]),
    ("string[]", [], []),
    ({"type": "enum", "symbols": ["#x/md5", "sha1"]}, "md5", "md5"),
    (["null", {"type": "enum", "symbols": ["md5"]}], "md5", "md5"),
    ({"type": "record", "fields": [{"name": "n", "type": "int"}]}, {"n": "4"}, {"n": 4}),
    ({"type": "record", "fields": {"n": "int", "o": "string?"}}, '{"n": 4}', {"n": 4}),
    (["int", "string"], "four", "four"),
    (["string", "int"], 4, "4"),
    ("Any", {"a": [1]}, {"a": [1]}),
    ("#my_type", "anything", "anything"),
    (None, 3, 3),
    ({"type": "array", "items": ["null", "int"]}, [1], [1]),
]


@pytest.mark.parametrize(("declared", "value", "converted"), VALID, ids=repr)
def test_a_value_is_converted_to_the_type_of_its_port(declared, value, converted):
    assert convert(declared, value) == ({"x": converted}, [])


WRONG = [
    ("int", "four", "inputs.x: 'four' is not a whole number"),
    ("int", 4.5, "inputs.x: 4.5 is not a whole number"),
    ("int", True, "inputs.x: True is not a whole number"),
    ("float", "nan", "inputs.x: 'nan' is not a number"),
    ("float", False, "inputs.x: False is not a number"),
    ("boolean", "maybe", "inputs.x: 'maybe' is not a boolean"),
    ("string", 0.1, "inputs.x: 0.1 is a number"),
    ("string", True, "inputs.x: True is a boolean"),
    ("File", "a.bam", "inputs.x: 'a.bam' is not a file's id"),
    ("File", 12, "inputs.x: 12 is not a file"),
    ("File", {"class": "Directory", "path": FILE}, "of class 'Directory'; the app expects a file"),
    ("Directory", A_FILE, "of class 'File'; the app expects a folder"),
    ("File", {"class": "File"}, "inputs.x: None is not a file's id"),
    ("File", {"class": "File", "path": ["a"]}, "inputs.x: ['a'] is not a file's id"),
    ("File[]", FILE, "is not a list; give a list (a file each)"),
    ("File[]", [FILE, "b"], "inputs.x[1]: 'b' is not a file's id"),
    ({"type": "enum", "symbols": ["md5", "sha1"]}, "crc", "inputs.x: 'crc' is not a valid value; use md5, sha1."),
    ({"type": "record", "fields": [{"name": "n", "type": "int"}]}, 4, "inputs.x: 4 is not a mapping; give one with n"),
    ({"type": "record", "fields": [{"name": "n", "type": "int"}]}, {}, "inputs.x.n: it is missing"),
    ({"type": "record", "fields": [{"name": "n", "type": "int"}]}, {"n": 1, "m": 2}, "inputs.x.m: the app has no such"),
    (["int", "boolean"], "four", "inputs.x: 'four' is none of a value of type int or a value of type boolean"),
]


@pytest.mark.parametrize(("declared", "value", "problem"), WRONG, ids=repr)
def test_a_wrong_value_is_named_with_its_port_and_the_fix(declared, value, problem):
    _, problems = convert(declared, value)
    assert len(problems) == 1
    assert problem in problems[0]


def test_all_wrong_inputs_are_named_at_once():
    ports = [Port.from_json({"id": name, "type": kind}) for name, kind in [("a", "File"), ("b", "int"), ("c", "File?")]]
    _, problems = convert_inputs({"b": "x", "c": "y", "d": 1}, ports)
    assert [problem.partition(":")[0] for problem in problems] == ["inputs.d", "inputs.a", "inputs.b", "inputs.c"]
    assert problems[0] == "inputs.d: the app has no such input; it has a, b, c."


@pytest.mark.parametrize("value", [None, "None", ""])
def test_a_value_that_is_not_set_is_missing(value):
    assert convert("File", value)[1] == ["inputs.x: it is missing, and the app requires it; give a file."]
    assert convert("File?", value) == ({}, [])
    assert convert("File", value, default=A_FILE) == ({}, [])


@pytest.mark.parametrize(("port", "name"), [("#reads", "reads"), ("#main/reads", "reads"), ("reads", "reads")])
def test_the_name_of_a_port_is_the_last_part_of_its_id(port, name):
    assert Port.from_json({"id": port, "type": "File"}).name == name


@pytest.mark.parametrize("declared", ["File", "File[]", {"type": "array", "items": "File"}])
def test_the_batched_port_takes_a_list(declared):
    port = Port.from_json({"id": "x", "type": declared})
    assert convert_inputs({"x": [FILE, OTHER]}, [port], "x")[1] == []
    assert "is not a list" in convert_inputs({"x": FILE}, [port], "x")[1][0]


def test_the_batched_port_must_exist_and_have_a_value():
    port = Port.from_json({"id": "x", "type": "File?"})
    assert "the app has no input 'y'" in convert_inputs({}, [port], "y")[1][0]
    assert "inputs.x is missing" in convert_inputs({}, [port], "x")[1][0]


def test_files_are_found_wherever_they_are():
    folder = {"class": "Directory", "path": OTHER}
    assert list(file_ids({"a": A_FILE, "b": [{"c": folder}], "d": "text", "e": {"path": "no class"}})) == [
        (FILE, "File"),
        (OTHER, "Directory"),
    ]
