"""The initial contents of the local Platform: one project, a few small files, three volumes, and apps."""

from __future__ import annotations

import gzip
import random
from typing import TYPE_CHECKING

from airflow_sb_provider.emulator.apps import toy_apps

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Platform

PROJECT = "demo/genomics"
VCF = "5f0000000000000000000001"
BAM = "5f0000000000000000000002"
BAM_INDEX = "5f0000000000000000000003"
REPORT = "5f0000000000000000000004"
REFERENCE = "5f0000000000000000000005"
ROOT_FOLDER = "5f00000000000000000000f0"
ALIGNMENTS = "5f00000000000000000000f1"
REPORTS = "5f00000000000000000000f2"
WORD_COUNT, GZIP, CHECKSUMS, ALL_TYPES = (
    f"{PROJECT}/{name}" for name in ("word-count", "gzip-with-index", "checksums", "all-types")
)
RESULTS, ARCHIVE, READONLY = "demo/results", "demo/archive", "demo/readonly"


def seed(platform: Platform) -> None:
    """Fill an empty platform, with the same ids and bytes every time."""
    platform.add_project(PROJECT, "genomics", ROOT_FOLDER)
    platform.add_folder("alignments", PROJECT, file_id=ALIGNMENTS)
    platform.add_folder("reports", PROJECT, file_id=REPORTS)
    sample = {"sample_id": "NA12878", "reference_genome": "GRCh38"}
    platform.add_file(
        "NA12878.vcf", _vcf(), PROJECT, file_id=VCF, tags=("variants",), metadata=dict(sample), task=_TASK
    )
    platform.add_file(
        "NA12878.bam", _bam(), PROJECT, ALIGNMENTS, BAM, tags=("alignment",), metadata=dict(sample), task=_TASK
    )
    platform.add_file("NA12878.bam.bai", b"BAI\x01" + bytes(96), PROJECT, ALIGNMENTS, BAM_INDEX, metadata=dict(sample))
    platform.add_file("NA12878.report.html", _REPORT, PROJECT, REPORTS, REPORT, tags=("report",))
    platform.add_file("GRCh38.chr20.intervals", b"chr20\t1\t64444167\n", PROJECT, file_id=REFERENCE, public=True)
    platform.add_volume(RESULTS, "demo-results", prefix="exports")
    platform.add_volume(ARCHIVE, "demo-archive")
    platform.add_volume(READONLY, "demo-readonly", access_mode="RO")
    for app in toy_apps(PROJECT):
        platform.add_app(app)


_TASK = "0d0e6f3c-5b1e-4f6a-9a6e-000000000001"
_REPORT = b"""<!doctype html>
<title>NA12878</title>
<h1>NA12878: quality report</h1>
<table><tr><th>variants<td>3<tr><th>mean depth<td>31.4</table>
"""


def _vcf() -> bytes:
    header = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "NA12878"]
    rows = [
        ["20", "14370", "rs6054257", "G", "A", "29", "PASS", "DP=14", "GT", "0/1"],
        ["20", "17330", ".", "T", "A", "3", "q10", "DP=11", "GT", "0/0"],
        ["20", "1110696", "rs6040355", "A", "G", "67", "PASS", "DP=10", "GT", "1/1"],
    ]
    lines = ["##fileformat=VCFv4.2", *("\t".join(row) for row in (header, *rows))]
    return ("\n".join(lines) + "\n").encode()


def _bam() -> bytes:
    return gzip.compress(b"BAM\x01" + random.Random(20).randbytes(64 * 1024), mtime=0)
