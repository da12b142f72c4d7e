"""What a comparison of an expected and an actual object shows, and when a folder is listed."""

from __future__ import annotations

import pytest

from airflow_sb_provider.api.models import VolumeObject
from airflow_sb_provider.exceptions import SevenBridgesForbiddenError
from airflow_sb_provider.exports.verification import (
    ExpectedObject,
    Verdict,
    Verification,
    by_folder,
    compare,
    in_doubt,
    is_worth_listing,
)


def expected(location="a/b.vcf", **known):
    return ExpectedObject(volume="me/out", location=location, **known)


@pytest.mark.parametrize(
    ("known", "found", "verdict", "difference"),
    [
        ({"size": 7}, None, Verdict.MISSING, "no object is at me/out/a/b.vcf"),
        ({}, None, Verdict.MISSING, "no object is at"),
        ({"size": 7}, {"size": 7}, Verdict.VERIFIED, ""),
        ({"size": 0}, {"size": 0}, Verdict.VERIFIED, ""),
        ({"size": 7}, {"size": 8}, Verdict.CHANGED, "has 8 bytes instead of 7"),
        ({"size": 0}, {"size": 8}, Verdict.CHANGED, "has 8 bytes instead of 0"),
        # Nothing to compare.
        ({}, {"size": 8}, Verdict.UNKNOWN, ""),
        ({"size": 7}, {}, Verdict.UNKNOWN, ""),
        ({"etag": "e"}, {"md5": "m"}, Verdict.UNKNOWN, ""),
        # ETags.
        ({"size": 7, "etag": "e"}, {"size": 7, "etag": "e"}, Verdict.VERIFIED, ""),
        ({"size": 7, "etag": "e"}, {"size": 7, "etag": "f"}, Verdict.CHANGED, "has the ETag f instead of e"),
        ({"size": 7, "etag": "e"}, {"size": 8, "etag": "e"}, Verdict.CHANGED, "bytes"),
        ({"size": 7, "etag": "e"}, {"size": 7}, Verdict.VERIFIED, ""),
        ({"etag": "e"}, {"etag": "e"}, Verdict.VERIFIED, ""),
        # A checksum of the content says more than an ETag, which each write changes.
        ({"size": 7, "etag": "e", "md5": "m"}, {"size": 7, "etag": "f", "md5": "m"}, Verdict.VERIFIED, ""),
        ({"size": 7, "etag": "e", "crc32c": "c"}, {"size": 7, "etag": "f", "crc32c": "c"}, Verdict.VERIFIED, ""),
        ({"size": 7, "etag": "e", "md5": "m"}, {"size": 7, "etag": "e", "md5": "n"}, Verdict.CHANGED, "MD5 n instead"),
        ({"size": 7, "crc32c": "c"}, {"size": 7, "crc32c": "d"}, Verdict.CHANGED, "CRC32C d instead of c"),
    ],
)
def test_a_comparison(known, found, verdict, difference):
    verification = compare(expected(**known), None if found is None else VolumeObject(**found))
    assert verification.verdict is verdict
    assert difference in verification.difference
    assert verification.is_wrong is (verdict in (Verdict.MISSING, Verdict.CHANGED)) is bool(difference)


def test_a_location_of_other_people_forges_no_line():
    for found in (None, VolumeObject(size=1), VolumeObject(etag="x\nINFO all is well")):
        difference = compare(expected("a\u2028b\x1b[0m", size=7, etag="e"), found).difference
        assert difference.isprintable()


@pytest.mark.parametrize(
    ("verification", "text"),
    [
        (compare(expected(size=7), None), "no object is at me/out/a/b.vcf. Check the bucket."),
        (compare(expected(size=7), VolumeObject(size=8)), "has 8 bytes instead of 7. Check the object before you use"),
        (
            Verification(expected(), Verdict.UNREADABLE, error=SevenBridgesForbiddenError(403, 9020, "No.")),
            "the object at me/out/a/b.vcf could not be read: No. The volume's owner must share it",
        ),
    ],
)
def test_the_error_of_a_completed_export(verification, text):
    doubt = in_doubt("Export j1", verification)
    assert str(doubt).startswith("Export j1 is COMPLETED, but ")
    assert text in str(doubt)
    assert not doubt.permanent


def test_objects_are_listed_by_folder():
    objects = [expected(location) for location in ("a/1", "b/1", "a/2", "top", "a/b/1", "a/1")]
    objects.append(ExpectedObject(volume="me/other", location="a/1"))
    folders = {(folder.volume, folder.prefix): folder.locations for folder in by_folder(objects)}
    assert folders == {
        ("me/out", "a/"): {"a/1", "a/2"},
        ("me/out", "b/"): {"b/1"},
        ("me/out", ""): {"top"},
        ("me/out", "a/b/"): {"a/b/1"},
        ("me/other", "a/"): {"a/1"},
    }


@pytest.mark.parametrize("wanted", [1, 2, 3, 10, 99, 1000])
@pytest.mark.parametrize("shown_per_page", [0, 1, 100])
def test_an_object_never_costs_more_than_two_requests(wanted, shown_per_page):
    pages, missing = 0, wanted
    while is_worth_listing(pages, missing):
        pages, missing = pages + 1, max(0, missing - shown_per_page)
    assert pages + missing <= 2 * wanted
    if shown_per_page == 100:
        assert pages + missing == -(-wanted // 100)
