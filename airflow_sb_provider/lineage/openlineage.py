"""Convert a report to OpenLineage datasets and facets. Imported only when Airflow's OpenLineage provider calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    dataset_version_dataset,
    documentation_dataset,
    external_query_run,
    extraction_error_run,
    input_statistics_input_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
)

from airflow_sb_provider.exports.outcome import MAX_REPORTED, namespace
from airflow_sb_provider.jobs.batch import ERRORS_REPORTED
from airflow_sb_provider.jobs.tracked import MESSAGE_KEPT
from airflow_sb_provider.tasks.outcome import TaskReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openlineage.client.facet_v2 import DatasetFacet, RunFacet

    from airflow_sb_provider.exports.outcome import ExportOutcome, Report


def operator_lineage(report: Report | TaskReport, endpoint: str, *, failed: bool) -> OperatorLineage[Any, Any]:
    """Return what a task has read and made.

    :param endpoint: the API's URL, whose host is the files' namespace.
    :param failed: whether the task failed.
    """
    return _of_app(report, endpoint) if isinstance(report, TaskReport) else _of_exports(report, endpoint, failed=failed)


def _of_app(report: TaskReport, endpoint: str) -> OperatorLineage[Any, Any]:
    """Return input and output files; a task that is not completed has no outputs."""
    return OperatorLineage(
        inputs=[InputDataset(report.platform, file_id) for file_id in report.inputs[:MAX_REPORTED]],
        outputs=[_made(made.item, report.platform) for made in report.outputs[:MAX_REPORTED]],
        run_facets={"externalQuery": external_query_run.ExternalQueryRunFacet(report.outcome.task.id, endpoint)},
    )


def _made(item: Mapping[str, Any], platform: str) -> OutputDataset:
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(size=item["size"], fileCount=1)
    documentation = documentation_dataset.DocumentationDatasetFacet(f"File {item['name'] or ''} at port {item['port']}")
    return OutputDataset(
        platform, item["id"], facets={"documentation": documentation}, outputFacets={"outputStatistics": statistics}
    )


def _of_exports(report: Report, endpoint: str, *, failed: bool) -> OperatorLineage[Any, Any]:
    """Return files as inputs and objects as outputs: the exported ones or, if there are none, the requested ones.

    :param endpoint: the API's URL, whose host is the files' namespace.
    :param failed: whether the task failed. A task that succeeds without waiting has no object yet.
    """
    reported = (report.exported or report.exports)[:MAX_REPORTED]
    outputs = [_output(export, export.uri) for export in reported if export.uri and (export.exported or failed)]
    if report.manifest:
        outputs.append(OutputDataset(*_named(report.manifest)))
    return OperatorLineage(
        inputs=[_input(export, namespace(endpoint), export.file) for export in reported if export.file],
        outputs=outputs,
        run_facets=_run_facets(report, endpoint),
    )


def _input(export: ExportOutcome, platform: str, file: str) -> InputDataset:
    statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(size=export.size, fileCount=1)
    facets: dict[str, DatasetFacet] = {}
    if export.name:
        where = f" in project {export.project}" if export.project else ""
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(f"File {export.name}{where}")
    return InputDataset(
        platform, file, facets=facets, inputFacets={"inputStatistics": statistics} if export.exported else {}
    )


def _output(export: ExportOutcome, uri: str) -> OutputDataset:
    if not export.exported:
        return OutputDataset(*_named(uri))
    changes = lifecycle_state_change_dataset.LifecycleStateChange
    verb = {True: "Copied", False: "Moved", None: "Exported"}[export.copy_only]
    facets: dict[str, DatasetFacet] = {
        "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            changes.OVERWRITE if export.overwrite else changes.CREATE
        ),
        "documentation": documentation_dataset.DocumentationDatasetFacet(
            f"{verb} from the Seven Bridges file {export.name or export.file}"
        ),
    }
    if export.etag:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(export.etag)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(size=export.size, fileCount=1)
    return OutputDataset(*_named(uri), facets=facets, outputFacets={"outputStatistics": statistics})


def _run_facets(report: Report, endpoint: str) -> dict[str, RunFacet]:
    facets: dict[str, RunFacet] = {}
    if not report.many and report.exports and (export_id := report.exports[0].export_id):
        facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(export_id, endpoint)
    failed_exports = [(number, export) for number, export in enumerate(report.exports) if export.error]
    if failed_exports:
        facets["extractionError"] = extraction_error_run.ExtractionErrorRunFacet(
            totalTasks=report.total,
            failedTasks=len(failed_exports),
            errors=[
                extraction_error_run.Error(
                    errorMessage=export.error[:MESSAGE_KEPT],
                    task=f"{export.file} {export.name or ''} -> {export.volume}/{export.location}",
                    taskNumber=number,
                )
                for number, export in failed_exports[:ERRORS_REPORTED]
            ],
        )
    return facets


def _named(uri: str) -> tuple[str, str]:
    """Return a URI as OpenLineage names datasets: ``s3://bucket`` and the key; a path has the namespace ``file``."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return "file", uri
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key
