from __future__ import annotations

import pytest

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.request import ExportRequest, Intent, read_boolean

FILE = "567890abc9b0307bc0414164"
GOOD = {"file": FILE, "volume": "rfranklin/output", "location": "output.vcf"}


def problems_of(**fields):
    with pytest.raises(SevenBridgesInputError) as caught:
        ExportRequest.checked(**{**GOOD, **fields})
    return caught.value.problems


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("file", "", ["''", "file id"]),
        ("file", None, ["None", "file id"]),
        ("file", "None", ["'None'", "file id"]),
        ("file", "sample.vcf", ["'sample.vcf'", "24 hexadecimal digits"]),
        ("file", "567890abc9b0307bc041416", ["24 hexadecimal digits"]),
        ("file", "567890abc9b0307bc041416g", ["24 hexadecimal digits"]),
        ("file", FILE + "\n", ["line breaks"]),
        ("file", 567890, ["567890"]),
        ("file", 5.6e22, ["5.6e+22 is a number: native rendering"]),
        ("file", float("inf"), ["inf is a number: native rendering"]),
        ("file", True, ["True is a boolean"]),
        ("file", b"567890abc9b0307bc0414164", ["not text"]),
        ("file", ["567890abc9b0307bc0414164"], ["not text"]),
        ("volume", 1.0, ["1.0 is a number"]),
        ("volume", "a\x00/b", ["U+0000 at position 2"]),
        ("volume", "", ["''", "rfranklin/output"]),
        ("volume", "output", ["'output'", "owner/name"]),
        ("volume", "/output", ["owner/name"]),
        ("volume", "rfranklin/", ["owner/name"]),
        ("volume", "../user", ["owner/name"]),
        ("volume", "a/../user", ["owner/name"]),
        ("volume", "rfranklin/..", ["owner/name"]),
        ("volume", " rfranklin/output", ["leading or trailing spaces"]),
        ("location", "", ["''", "key"]),
        ("location", "/output.vcf", ["starts with a slash"]),
        ("location", "results/", ["ends with a slash"]),
        ("location", "a\nb", ["'a\\nb' contains U+000A at position 2", "line breaks"]),
        ("location", "a\ud800", ["U+D800 at position 2"]),
        ("location", " a", ["leading or trailing spaces"]),
        ("location", "a\u202f", ["leading or trailing spaces"]),
        ("location", 1e5, ["100000.0 is a number: native rendering"]),
        ("location", False, ["False is a boolean"]),
        ("location", {"a": 1}, ["not text"]),
        ("location", "..", ["'..'", "names no object"]),
        ("location", "s3://demo-archive/n/output.vcf", ["is an address", "'demo-archive'", "write 'n/output.vcf'"]),
        ("location", "S3://demo-archive/n/output.vcf", ["write 'n/output.vcf'"]),
        ("location", "gs://bucket/x", ["'bucket'", "write 'x'"]),
        ("location", "https://bucket.s3.amazonaws.com/x", ["is an address"]),
        ("location", "azure+x.y-z://bucket/x", ["is an address"]),
        ("location", "s3://bucket", ["is an address", "results/output.vcf"]),
        ("location", "s3:/bucket/x", ["'bucket'", "write 'x'"]),
        ("location", "arn:aws:s3:::bucket/x", ["'bucket'", "write 'x'"]),
        ("location", "x" * 1025, ["1024 bytes"]),
        ("overwrite", "perhaps", ["'perhaps'", "true or false"]),
        ("overwrite", None, ["None", "true or false"]),
        ("copy_only", 2, ["2", "true or false"]),
        ("properties", {"sse": "AES256"}, ["'sse'", "sse_algorithm"]),
        ("properties", {"sse_algorithm": "DES"}, ["sse_algorithm", "'DES'", "AES256, aws:kms, null"]),
        ("properties", {"sse_algorithm": "None"}, ["sse_algorithm", "'None'"]),
        ("properties", {"sse_aws_kms_key_id": "key"}, ["sse_aws_kms_key_id", "aws:kms"]),
        ("properties", {"sse_aws_kms_key_id": "key", "sse_algorithm": "AES256"}, ["'AES256'", "aws:kms"]),
        ("properties", {"sse_aws_kms_key_id": " ", "sse_algorithm": "aws:kms"}, ["sse_aws_kms_key_id"]),
        ("properties", {"aws_canned_acl": "open"}, ["aws_canned_acl", "'open'", "private"]),
        ("properties", {"aws_storage_class": 3}, ["aws_storage_class", "3"]),
        ("properties", ["AES256"], ["mapping"]),
        ("properties", "sse_algorithm=AES256", ["JSON", "tojson"]),
    ],
)
def test_an_invalid_value_is_reported_with_its_field_and_the_fix(field, value, words):
    (problem,) = problems_of(**{field: value})
    assert problem.startswith(f"{field}: ")
    for word in words:
        assert word in problem


def test_all_invalid_fields_are_reported_together():
    problems = problems_of(file="x", volume="y", location="/", overwrite="z", copy_only="z", properties="z")
    assert [problem.partition(":")[0] for problem in problems] == [
        "file",
        "volume",
        "location",
        "overwrite",
        "copy_only",
        "properties",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [("True", True), ("true", True), (" yes ", True), ("1", True), ("False", False), ("off", False), ("0", False)],
)
def test_a_boolean_as_text_means_what_it_says(text, meant):
    assert read_boolean(text) is meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, None),
        ("None", None),
        ("", None),
        ({}, None),
        (
            '{"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "k"}',
            {"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "k"},
        ),
        ({"sse_algorithm": None}, {"sse_algorithm": None}),
        (
            {"aws_canned_acl": "bucket-owner-full-control", "aws_storage_class": "GLACIER"},
            {"aws_canned_acl": "bucket-owner-full-control", "aws_storage_class": "GLACIER"},
        ),
    ],
)
def test_properties_from_rendered_templates(given, meant):
    assert ExportRequest.checked(**GOOD, properties=given).properties == meant


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (20240115, "20240115"),
        ("a\u202fb", "a\u202fb"),
        ("run:/x", "run:/x"),
        ("a/s3://b", "a/s3://b"),
        ("sample:1", "sample:1"),
        ("C:/x", "C:/x"),
        ("\u00e9" * 512, "\u00e9" * 512),
    ],
)
def test_locations(location, text):
    assert ExportRequest.checked(**{**GOOD, "location": location}).location == text


def test_a_file_id_of_digits_may_be_a_number():
    number = int("1" * 24)
    assert ExportRequest.checked(**{**GOOD, "file": number}).file == "1" * 24


@pytest.mark.parametrize("volume", ["rfranklin/output", "my division/out", "a@b.org/out_1", "x/y/out", "…/out"])
def test_owners_may_hold_any_character(volume):
    assert ExportRequest.checked(**{**GOOD, "volume": volume}).volume == volume


@pytest.mark.parametrize(
    ("copy_only", "overwrite", "intent"),
    [
        (False, False, Intent.MOVE),
        (False, True, Intent.MOVE_OVERWRITE),
        (True, False, Intent.COPY),
        (True, True, Intent.COPY_OVERWRITE),
    ],
)
def test_intent(copy_only, overwrite, intent):
    assert ExportRequest.checked(**GOOD, copy_only=copy_only, overwrite=overwrite).intent is intent


def test_every_field_changes_the_fingerprint():
    changes = [
        {},
        {"file": "0" * 24},
        {"volume": "other/output"},
        {"location": "other.vcf"},
        {"overwrite": True},
        {"copy_only": True},
        {"properties": {"sse_algorithm": None}},
    ]
    prints = [ExportRequest.checked(**{**GOOD, **change}).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    assert prints[0] == ExportRequest.checked(**GOOD, overwrite="false").fingerprint
