from __future__ import annotations

import pytest

from airflow_sb_provider.api.index_files import index_names, is_index


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.bam", ["a.bam.bai", "a.bai"]),
        ("a.cram", ["a.cram.crai", "a.crai"]),
        ("a.vcf.gz", ["a.vcf.gz.tbi", "a.vcf.gz.csi"]),
        ("a.vcf", ["a.vcf.idx"]),
        ("a.fa", ["a.fa.fai"]),
        ("a.fa.gz", ["a.fa.gz.fai", "a.fa.gz.gzi"]),
    ],
)
def test_names_of_index_files(name, names):
    assert set(names) <= set(index_names(name))
    assert all(is_index(each) for each in index_names(name))
    assert all(index_names(each) == [] for each in names)
    assert not is_index(name)
    assert not is_index(None)
