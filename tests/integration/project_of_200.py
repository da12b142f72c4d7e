"""A project of 200 files on the local Platform, three of which cannot be exported, and the expected result."""

from __future__ import annotations

import json
from collections import Counter

PROJECT = "demo/two-hundred"
GOOD = 197
FOLDERS = (None, "calls", "calls/filtered")
PARAMS = {
    "project": PROJECT,
    "name": "*.vcf.gz",
    "volume": "demo/results",
    "location_pattern": "bulk/{path}/{name}",
    "copy_only": False,
}
REASONS = {"public.vcf.gz": "public", "archived.vcf.gz": "archived", "alias.vcf.gz": "alias"}


def fill(platform):
    """Create the project; return the ids of the exportable files and, by name, of the others."""
    good = [
        platform.add_file(f"{number:03}.vcf.gz", b"x" * 10, PROJECT, FOLDERS[number % len(FOLDERS)]).id
        for number in range(GOOD)
    ]
    platform.add_file("notes.txt", b"not meant", PROJECT)
    bad = {
        "public.vcf.gz": platform.add_file("public.vcf.gz", b"x", PROJECT, public=True).id,
        "archived.vcf.gz": platform.add_file("archived.vcf.gz", b"x", PROJECT, "calls", archived=True).id,
        "alias.vcf.gz": platform.add_file("alias.vcf.gz", b"x", PROJECT, alias=("demo/archive", "elsewhere.gz")).id,
    }
    return good, bad


def check(platform, good, bad, *, summary, report, failure, manifest):
    """Check that each exportable file is moved once, the others have their reason, and all are in the manifest."""
    own = [job for job in platform.exports if job.file in {*good, *bad.values()}]
    assert Counter(job.file for job in own if job.state == "COMPLETED") == Counter(good)
    files = platform.platform.files
    assert files[good[0]].alias == ("demo/results", "bulk/000.vcf.gz")
    assert files[good[2]].alias == ("demo/results", "bulk/calls/filtered/002.vcf.gz")
    assert all(files[each].alias for each in good)

    assert (summary["state"], summary["total"]) == ("FAILED", 200)
    assert summary["counts"]["COMPLETED"] == GOOD
    assert summary["bytes"] == 10 * GOOD
    assert {error["name"]: error["file"] for error in summary["errors"]} == bad
    assert "3 of 200 files were not exported" in failure
    for name, file in bad.items():
        row = next(line for line in failure.splitlines() if file in line and "->" in line)
        assert REASONS[name] in row.partition("->")[2].lower()
        assert name in report
    assert report.startswith("200 files: ")

    rows = [json.loads(line) for line in manifest.splitlines()]
    assert {row["file"] for row in rows} == {*good, *bad.values()}
    assert len(rows) == 200
    jobs = {job.file: job for job in own}
    for row in rows:
        if row["file"] in good:
            assert (row["state"], row["export_id"], row["size"]) == ("COMPLETED", jobs[row["file"]].id, 10)
            assert row["uri"] == f"s3://demo-results/exports/{row['location']}"
        else:
            assert row["state"] in ("FAILED", "REFUSED")
            assert row["message"]
