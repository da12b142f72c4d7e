"""Reads OpenLineage events, as its file transport writes them, into the classes of the official client."""

from __future__ import annotations

import json
from pathlib import Path

import attr
from openlineage.client import event_v2, facet_v2
from openlineage.client.generated import extraction_error_run, lifecycle_state_change_dataset
from openlineage.client.serde import Serde

# The client's classes of facets, by their name in events.
FACETS = {
    "documentation": facet_v2.documentation_dataset.DocumentationDatasetFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "lifecycleStateChange": facet_v2.lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet,
    "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "externalQuery": facet_v2.external_query_run.ExternalQueryRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "extractionError": facet_v2.extraction_error_run.ExtractionErrorRunFacet,
}
PARTS = {
    "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChange,
    "errors": lambda errors: [extraction_error_run.Error(**error) for error in errors],
}


def settings(path):
    """Return the settings with which Airflow writes its events to a file."""
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}


def read_event(path, job, state):
    """Return the only event of a file with this state of a job, parsed and serialized by the client's classes."""
    events = [json.loads(line) for line in Path(path).read_text().splitlines()]
    [event] = [event for event in events if (event["job"]["name"], event["eventType"]) == (job, state)]
    return _event(event)


def named(datasets):
    return [(each.namespace, each.name) for each in datasets]


def _event(data):
    event = event_v2.RunEvent(
        eventTime=data["eventTime"],
        producer=data["producer"],
        eventType=event_v2.RunState(data["eventType"]),
        # The client does not know the facets of Airflow.
        run=event_v2.Run(
            runId=data["run"]["runId"],
            facets={name: _facet(name, each) for name, each in data["run"]["facets"].items() if name in FACETS},
        ),
        job=event_v2.Job(namespace=data["job"]["namespace"], name=data["job"]["name"]),
        inputs=[_dataset(event_v2.InputDataset, "inputFacets", each) for each in data["inputs"]],
        outputs=[_dataset(event_v2.OutputDataset, "outputFacets", each) for each in data["outputs"]],
    )
    again = json.loads(Serde.to_json(event))
    for key in ("eventTime", "eventType", "inputs", "outputs"):
        assert again[key] == data[key]
    assert again["run"]["runId"] == data["run"]["runId"]
    for name, facet in again["run"].get("facets", {}).items():
        assert facet == data["run"]["facets"][name]
    return event


def _dataset(kind, own, data):
    assert data["namespace"]
    assert data["name"]
    return kind(
        namespace=data["namespace"],
        name=data["name"],
        facets={name: _facet(name, each) for name, each in data.get("facets", {}).items()},
        **{own: {name: _facet(name, each) for name, each in data.get(own, {}).items()}},
    )


def _facet(name, data):
    kind = FACETS[name]
    fields = {key: value for key, value in data.items() if not key.startswith("_")}
    assert fields.keys() <= {field.name for field in attr.fields(kind)}
    facet = kind(**{key: PARTS[key](value) if key in PARTS else value for key, value in fields.items()})
    facet._producer = data["_producer"]
    assert facet._schemaURL == data["_schemaURL"]
    return facet
