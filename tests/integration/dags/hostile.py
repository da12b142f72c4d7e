"""Names of files that would leak the token if they were rendered, and where the token must not appear."""

from __future__ import annotations

import json

from tests.integration.dags.test_token_nowhere import assert_nowhere

HOSTILE = (
    "{{ conn.sevenbridges_default.password }}.vcf",
    "{{ 7*191 }}.vcf",
    "{% raw %}.vcf",
    "{# c #}.vcf",
    "${{ 7*191 }}.vcf",
    "{{ '{{' }} 7*191 }}.vcf",
    "{% if conn.sevenbridges_default.password %}yes{% endif %}.vcf",
)


def add_hostile_files(platform, project="demo/genomics"):
    """Return the ids of the files by name."""
    metadata = {"{{ 7*191 }}": HOSTILE[0], "sample_id": HOSTILE[1]}
    return {name: platform.add_file(name, b"x", project, metadata=metadata, tags=[name]).id for name in HOSTILE}


def assert_token_nowhere(platform, captured):
    """Check that the token is in no key, no URL or body of a request, and nowhere in Airflow's home or output."""
    storage, volumes = platform.platform.storage, platform.platform.volumes.values()
    keys = [stored.key for volume in volumes for stored in storage.list(volume.bucket)]
    sent = [f"{record.path} {dict(record.query)} {json.dumps(record.json)}" for record in platform.requests]
    assert [text for text in keys + sent if platform.token in text] == []
    assert_nowhere(platform.token, captured)
