"""Responses of the local Platform to every call, in ``samples.json``; ``python -m tests.fuzz.samples`` updates it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.exports.request import ExportRequest

FILE = Path(__file__).with_name("samples.json")
HEADERS = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Total-Matching-Query")


@dataclass(frozen=True)
class Sample:
    """A call by name and arguments, and a response to it."""

    name: str
    arguments: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: str

    @property
    def call(self):
        return call(self.name, self.arguments)


def call(name, arguments):
    arguments = dict(arguments)
    if "export" in arguments:
        arguments["export"] = ExportRequest.checked(**arguments["export"])
    if "exports" in arguments:
        arguments["exports"] = [ExportRequest.checked(**export) for export in arguments["exports"]]
    return getattr(calls, name)(**arguments)


@cache
def samples() -> list[Sample]:
    return [Sample(**each) for each in json.loads(FILE.read_text())]


def main() -> None:
    import requests

    from airflow_sb_provider.emulator import Emulator, Knobs
    from airflow_sb_provider.emulator.seed import BAM, PROJECT, RESULTS, VCF

    kept = []
    with Emulator(knobs=Knobs(pending_seconds=0, running_seconds=0), token="0" * 32) as emulator:

        def record(name, **arguments):
            prepared = call(name, arguments)
            answer = requests.request(
                prepared.method,
                prepared.url(emulator.url),
                json=prepared.body,
                headers={"X-SBG-Auth-Token": emulator.token},
                timeout=30,
            )
            headers = {header: answer.headers[header] for header in HEADERS if header in answer.headers}
            kept.append(
                {
                    "name": name,
                    "arguments": arguments,
                    "status": answer.status_code,
                    "headers": headers,
                    "body": answer.text.replace(emulator.url, "https://api.sbgenomics.com/v2"),
                }
            )
            return answer.json()

        one = {"file": VCF, "volume": RESULTS, "location": "a/one.vcf"}
        two = {"file": BAM, "volume": RESULTS, "location": "a/two.bam"}
        missing = {"file": "5" * 24, "volume": RESULTS, "location": "a/three"}
        job = record("start_export", export=one, copy_only=False)
        many = record("start_exports", exports=[two, missing], copy_only=True)
        time.sleep(1)
        ids = [job["id"], many["items"][0]["resource"]["id"], "none"]
        record("get_exports", export_ids=ids)
        for export_id in ids:
            record("get_export", export_id=export_id)
        record("start_export", export=one, copy_only=False)
        record("start_export", export=missing, copy_only=True)
        record("list_exports")
        record("list_exports", volume=RESULTS, states=["COMPLETED", "FAILED"], limit=1)
        emulator.add_import(RESULTS, "a/one.vcf", name="imported.vcf")
        record("list_imports", volume=RESULTS, states=["COMPLETED"])
        record("get_file", file_id=VCF)
        record("get_file", file_id="5" * 24)
        record("get_files", file_ids=[VCF, BAM, "5" * 24])
        record("set_tags", tags={VCF: ["a", "b"], "5" * 24: ["a"]})
        record("list_files", project=PROJECT)
        record("list_files", project=PROJECT, limit=1)
        record("get_volume", volume=RESULTS)
        record("list_volumes")
        record("get_volume_object", volume=RESULTS, location="a/one.vcf")
        record("get_volume_object", volume=RESULTS, location="nowhere")
        emulator.add_volume("demo/gcs", service_type="GCS")
        for number in range(101):
            emulator.put_object("demo/gcs", f"a/{number}" if number < 2 else f"{number}/x", b"x")
        record("list_volume_objects", volume="demo/gcs")
        record("list_volume_objects", volume="demo/gcs", prefix="a/")
        record("get_user")
        record("get_rate_limit")
        emulator.knobs.maintenance = True
        record("get_user")
        record("start_export", export=two, copy_only=False)
        emulator.knobs.maintenance = False
        emulator.knobs.rate_limit = 1
        record("get_exports", export_ids=ids)
        record("start_exports", exports=[one, two], copy_only=False)
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
