"""Operator that exports many files in one task."""

from __future__ import annotations

import shutil
import time
from bisect import bisect_right
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, islice
from logging import INFO, WARNING
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_sb_provider._compat import AirflowSkipException, ObjectStoragePath, conf
from airflow_sb_provider.api.models import File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.export_policy import ExportPolicy
from airflow_sb_provider.engine.listing import get_files, list_selected
from airflow_sb_provider.engine.result import volume_or_none
from airflow_sb_provider.engine.verification import verify_exports
from airflow_sb_provider.exceptions import (
    SevenBridgesBatchFailed,
    SevenBridgesError,
    SevenBridgesExportTimeout,
    SevenBridgesInputError,
)
from airflow_sb_provider.exports.decision import NOT_EXPORTABLE, alias_problem
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.manifest import (
    HEAD_BYTES,
    check_address,
    check_below,
    check_prefix,
    is_manifest_of,
    manifest_lines,
    prefix_in_template,
)
from airflow_sb_provider.exports.outcome import MAX_REPORTED, Report
from airflow_sb_provider.exports.selection import (
    SELECTION_FIELDS,
    SOURCES,
    PlannedExport,
    Selection,
    check_count,
    is_moved,
    plan,
    read_exports,
    read_tag,
    with_conflicts,
)
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import (
    Problems,
    check_seconds,
    is_absent,
    read_boolean,
    read_count,
    read_switches,
    read_texts,
)
from airflow_sb_provider.jobs.batch import Batch
from airflow_sb_provider.jobs.tracked import REFUSED, SKIPPED, WAITING
from airflow_sb_provider.jobs.watch import DEFAULT_TIMEOUT, MAX_IDS, POLL_INTERVAL
from airflow_sb_provider.lineage.hook import hook_lineage_is_read
from airflow_sb_provider.links.export import (
    SevenBridgesDestinationLink,
    SevenBridgesProjectLink,
    SevenBridgesVolumeLink,
)
from airflow_sb_provider.links.urls import folder_page, project_page
from airflow_sb_provider.operators.base import OnError, SevenBridgesOperator
from airflow_sb_provider.operators.validate import volume_problems
from airflow_sb_provider.task_status import batch_status, plan_status
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.models import Volume

OnEmpty = Literal["succeed", "skip", "fail"]

_SHOWN_BY_VALIDATION = 100
# In seconds: a file that is reported once too often does less harm than one that is not reported.
_CLOCK_MARGIN = 600.0
# In characters, each of which may take six bytes as JSON.
_MAX_TAGS = 4000
_TAGGED_TOGETHER = 1000
# In bytes; a longer manifest is prepared in a temporary file.
_MANIFEST_IN_MEMORY = 2**23


@dataclass(frozen=True)
class _Wanted:
    """The values of the templated fields, parsed and validated."""

    exports: Sequence[PlannedExport]
    selection: Selection | None
    validate_only: bool
    max_files: int | None


class SevenBridgesBulkExportOperator(SevenBridgesOperator[TrackedExport]):
    """Export many files in one task: a list of exports, or a selection of a project's files.

    Returns a small dict: ``state``, ``total``, ``counts`` by state, ``exported_now``, ``exported_before``, ``skipped``,
    ``failed``, ``adopted``, ``bytes``, ``seconds``, ``errors`` (the first ten) and ``manifest``. The operator also
    pushes it as XCom ``summary``, even if the task fails.

    .. note:: By default an export is a *move*, which cannot be undone, repeated or canceled. Each file is exported
        once: a retry checks the Platform and submits only what is missing. If the task is killed or times out, its
        exports continue, and the task's log names them.

    .. seealso:: `Start multiple export jobs <https://docs.sevenbridges.com/reference/start-multiple-export-jobs>`__

    :param exports: a list of mappings with ``file``, ``volume``, ``location`` and optionally ``overwrite``,
        ``copy_only``, ``properties``; or the same as JSON text. Use it instead of a selection. (templated)
    :param project: ``owner/short-name`` of the project whose files are selected. Alternatives: ``folder`` and
        ``file_ids``. (templated)
    :param folder: ID of the folder whose files are selected. (templated)
    :param file_ids: a list of file IDs. (templated)
    :param recursive: whether to include the files of all folders below. (templated)
    :param name: select files by name: a glob or a list of globs, such as ``*.{bam,cram}``. (templated)
    :param tags: select files that have any of these tags. (templated)
    :param metadata: select files by metadata: for each field a value or a list of values. (templated)
    :param origin_task: select the files that this task of the Platform created. (templated)
    :param created_after: select the files that were created at or after this time, such as
        ``2026-11-27T00:00:00Z``: a ``datetime`` or ISO 8601 text, in UTC if it has no offset. (templated)
    :param modified_after: the same for the time of the last change. (templated)
    :param volume: ID of the destination volume, for a selection. (templated)
    :param location_pattern: the key of each object: text with ``{path}``, ``{name}``, ``{stem}``, ``{suffix}``,
        ``{id}``, ``{project}``, ``{project_owner}``, ``{metadata[field]}``. (templated)
    :param secondary_files: whether to include index files (``.bai``, ``.tbi``, ...). (templated)
    :param overwrite: whether to delete objects that are at the destinations. If you move files, this can destroy the
        only copy of other files. It costs one more request for each file. (templated)
    :param overwrite_aliased: whether ``overwrite`` may delete objects that other files are aliases of, as far as the
        task can see. Those files lose their bytes. (templated)
    :param copy_only: whether to copy the files, so that the Platform keeps them. (templated)
    :param properties: as in `SevenBridgesExportOperator`. (templated)
    :param validate_only: whether to check all parameters and return what the task would do, without changing
        anything. (templated)
    :param manifest: where to write an audit record of every file: any URL or path that Airflow's
        ``ObjectStoragePath`` accepts, ending in ``.jsonl`` or ``.csv``. (templated)
    :param verify: whether to compare the size of each object with its file's at the end. An export whose object is
        missing, has another size or cannot be read is ``IN_DOUBT``. The manifest gets ETags and checksums. (templated)
    :param max_files: fail before the first submission if there are more files to export. (templated)
    :param skip_not_exportable: whether to skip files that cannot be exported (aliases of other objects, public and
        archived files, folders). They count as ``SKIPPED``, not as failed. (templated)
    :param skip_exported: whether to leave out the files that are already aliases of their destinations: earlier runs
        have moved them. They cost no request, and count as ``exported_before``. (templated)
    :param tag_exported: a tag that the task sets on every file that it has exported. Files that have it are left out,
        as with ``skip_exported``. The token's user needs the write permission on the project. (templated)
    :param sevenbridges_conn_id: ID of the Airflow connection. (templated)
    :param on_error: ``fail_at_end`` completes all other files first, ``fail_fast`` submits nothing more after the
        first failure, ``report`` succeeds even if files fail.
    :param on_empty: what to do if no file is to be exported: ``succeed``, ``skip`` (Airflow's skipped state) or
        ``fail``.
    :param emit_adopted: whether to emit asset events also for exports that an earlier run or another task made.
    :param manifest_prefix: the folder in which a manifest may be written, such as ``s3://my-bucket/manifests/``.
        Required in mapped tasks, and if ``manifest`` is a template that does not begin with a folder: otherwise a
        rendered value could point anywhere.
    :param manifest_metadata: the metadata fields to include in the manifest.
    :param max_active: how many exports may be in flight at a time, at most 1000.
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :param poll_interval: seconds between two polls of a job.
    :param timeout: seconds from the start of the first try after which the task fails; None for no limit.
    """

    template_fields: Sequence[str] = (
        "exports",
        *SELECTION_FIELDS,
        "validate_only",
        "manifest",
        "verify",
        "max_files",
        "skip_not_exportable",
        "skip_exported",
        "tag_exported",
        "overwrite_aliased",
        "sevenbridges_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "exports": "json",
        "metadata": "json",
        "properties": "json",
    }
    operator_extra_links: Sequence[BaseOperatorLink] = (
        SevenBridgesProjectLink(),
        SevenBridgesVolumeLink(),
        SevenBridgesDestinationLink(),
    )
    status_kind = "bulk"
    entry_class = TrackedExport
    trigger_class = SevenBridgesExportTrigger
    _batch: Batch[TrackedExport] | None = None

    def __init__(
        self,
        *,
        exports: Any = None,
        project: str | None = None,
        folder: str | None = None,
        file_ids: Any = None,
        recursive: bool | str = False,
        name: Any = None,
        tags: Any = None,
        metadata: Any = None,
        origin_task: str | None = None,
        created_after: datetime | str | None = None,
        modified_after: datetime | str | None = None,
        volume: str | None = None,
        location_pattern: str = "{path}/{name}",
        secondary_files: bool | str = False,
        overwrite: bool | str = False,
        overwrite_aliased: bool | str = False,
        copy_only: bool | str = False,
        properties: dict[str, str | None] | str | None = None,
        validate_only: bool | str = False,
        manifest: str | None = None,
        verify: bool | str = False,
        max_files: int | str | None = 10_000,
        skip_not_exportable: bool | str = False,
        skip_exported: bool | str = False,
        tag_exported: str | None = None,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        on_error: OnError = "fail_at_end",
        on_empty: OnEmpty = "succeed",
        emit_adopted: bool = False,
        manifest_prefix: str | None = None,
        manifest_metadata: Sequence[str] | str = (),
        max_active: int = MAX_IDS,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.exports = exports
        self.project = project
        self.folder = folder
        self.file_ids = file_ids
        self.recursive = recursive
        self.name = name
        self.tags = tags
        self.metadata = metadata
        self.origin_task = origin_task
        self.created_after = created_after
        self.modified_after = modified_after
        self.volume = volume
        self.location_pattern = location_pattern
        self.secondary_files = secondary_files
        self.overwrite = overwrite
        self.overwrite_aliased = overwrite_aliased
        self.copy_only = copy_only
        self.properties = properties
        self.validate_only = validate_only
        self.manifest = manifest
        self.verify = verify
        self.max_files = max_files
        self.skip_not_exportable = skip_not_exportable
        self.skip_exported = skip_exported
        self.tag_exported = tag_exported
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.on_error = on_error
        self.on_empty = on_empty
        self.manifest_prefix = manifest_prefix
        self.max_active = max_active
        self.deferrable, self.emit_adopted = read_switches(deferrable=deferrable, emit_adopted=emit_adopted)
        self.poll_interval = poll_interval
        self.timeout = timeout
        # The DAG author's text, before Airflow renders it.
        self._manifest_source = manifest
        check_seconds(poll_interval=poll_interval, timeout=timeout)
        problems = Problems()
        read = problems.read
        if on_error not in get_args(OnError):
            problems.texts.append(f"on_error: {on_error!r} is not known; use {', '.join(get_args(OnError))}.")
        if on_empty not in get_args(OnEmpty):
            problems.texts.append(f"on_empty: {on_empty!r} is not known; use {', '.join(get_args(OnEmpty))}.")
        active: object = max_active
        if isinstance(active, bool) or not isinstance(active, int) or not 1 <= active <= MAX_IDS:
            problems.texts.append(f"max_active: {active!r} is not a whole number from 1 to {MAX_IDS}.")
        if manifest_prefix is not None:
            read("manifest_prefix", check_prefix, manifest_prefix, "")
        columns: object = None if manifest_metadata in ((), []) else manifest_metadata
        none: tuple[str, ...] = ()
        self.manifest_metadata = list(read("manifest_metadata", read_texts, columns, none))
        problems.raise_if_any()

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the requested files that are not exported yet."""
        with self._reporting(context):
            wanted = self._checked(context)
            entries, left_out = self._plan(wanted)
            if wanted.validate_only:
                batch = Batch(TrackedExport.kind, entries, time.time(), 0, 0, len(left_out))
                self._show_plan(entries)
                self._show(batch, state="DRY_RUN")
                return self._validation_result(batch)
            return self._submit(context, entries, left_out)

    def _show_plan(self, entries: Sequence[TrackedExport]) -> None:
        """Publish from where to where the files go, with the volumes that the hook has already fetched."""
        volumes = self.hook.known_volumes
        status = plan_status(entries, volumes)
        self._status.stage(**status)
        projects = {entry.project for entry in entries}
        volume = volumes.get(status["volume"])
        endpoint = self.hook.settings.endpoint
        self._status.publish_links(
            {
                SevenBridgesProjectLink: project_page(endpoint, projects.pop() if len(projects) == 1 else None),
                SevenBridgesVolumeLink: folder_page(endpoint, object_uri(volume, "")) if volume else None,
                SevenBridgesDestinationLink: folder_page(endpoint, status["uri"]),
            }
        )

    def _show(self, batch: Batch[TrackedExport], **more: Any) -> None:
        """Publish the progress."""
        self._status.publish(**batch_status(batch, time.time(), self._manifest) | more)

    def _done_in_this_run(self, context: Context, entries: Sequence[TrackedExport]) -> list[TrackedExport]:
        started = context["dag_run"].start_date
        files = self._policy().exported_since(started.timestamp() - _CLOCK_MARGIN if started else 0.0)
        return [entry for entry in entries if entry.request.file in files]

    def _policy(self) -> ExportPolicy:
        return ExportPolicy(
            self.hook,
            skip_not_exportable=read_boolean(self.skip_not_exportable),
            overwrite_aliased=read_boolean(self.overwrite_aliased),
        )

    def _checked(self, context: Context) -> _Wanted:
        problems = Problems()
        read = problems.read
        selection: Selection | None = None
        exports: Sequence[PlannedExport] = []
        if is_absent(self.exports):
            fields = {field: getattr(self, field) for field in SELECTION_FIELDS}
            selection = read("selection", lambda fields: Selection.checked(**fields), fields, None)
        else:
            chosen = [field for field in SOURCES if not is_absent(getattr(self, field))]
            problems.texts += [f"{field}: give either exports or a selection, not both." for field in chosen]
            exports = read("exports", read_exports, self.exports, [])
        problems.texts += self._connection_problems()
        read("manifest", lambda _: self._manifest_for(context), self.manifest, None)
        read("skip_not_exportable", read_boolean, self.skip_not_exportable, False)
        read("skip_exported", read_boolean, self.skip_exported, False)
        read("tag_exported", lambda _: self._tag, self.tag_exported, None)
        read("verify", read_boolean, self.verify, False)
        read("overwrite_aliased", read_boolean, self.overwrite_aliased, False)
        wanted = _Wanted(
            exports,
            selection,
            validate_only=read("validate_only", read_boolean, self.validate_only, False),
            max_files=None if is_absent(self.max_files) else read("max_files", read_count, self.max_files, None),
        )
        problems.raise_if_any()
        return wanted

    def _plan(self, wanted: _Wanted) -> tuple[list[TrackedExport], list[TrackedExport]]:
        """Return an entry for each file to export, also if it cannot be, and those that earlier runs have exported."""
        planned, selection = wanted.exports, wanted.selection
        if selection:
            self.log.info("Listing the files of %s.", readable(str(selection), 1000))
            self._check_count(wanted, len(selection.file_ids or ()))
            selected = list_selected(self.hook, selection, wanted.max_files, self._may_be_new, self.manifest_metadata)
            planned = plan(selection, selected)
        else:
            self._check_count(wanted, len(planned))
        volume_ids = {export.request.volume for export in planned}
        volumes = self._volumes({selection.volume} if selection else volume_ids)
        problems = {volume_id: " ".join(volume_problems(volume)) for volume_id, volume in volumes.items()}
        if planned and all(problems.get(export.request.volume) for export in planned):
            raise SevenBridgesInputError(problems.values())
        if not selection:
            ids = dict.fromkeys(export.request.file for export in planned)
            files = get_files(self.hook, list(ids), self.manifest_metadata)
            planned = [
                replace(export, file=file if isinstance(file, File) else None)
                for export in planned
                for file in [files[export.request.file]]
            ]
        before = [export for export in planned if self._is_exported(export, volumes)]
        left_out = set(map(id, before))
        new = with_conflicts(
            [
                replace(export, problem=export.problem or problems.get(export.request.volume, ""))
                for export in planned
                if id(export) not in left_out
            ],
            volumes,
        )
        entries = [self._new_entry(export) for export in new]
        check_count(sum(entry.state != SKIPPED for entry in entries), wanted.max_files)
        return entries, [self._entry(export) for export in before]

    def _check_count(self, wanted: _Wanted, count: int) -> None:
        """Fail before any request if there are too many files, unless some of them may be left out."""
        if self._tag is None and not read_boolean(self.skip_exported):
            check_count(count, wanted.max_files)

    @property
    def _tag(self) -> str | None:
        return None if is_absent(self.tag_exported) else read_tag(self.tag_exported)

    def _may_be_new(self, file: File) -> bool:
        return self._tag not in file.tags and not (file.is_alias and read_boolean(self.skip_exported))

    def _is_exported(self, export: PlannedExport, volumes: Mapping[str, Volume]) -> bool:
        if export.file is None:
            return False
        return self._tag in export.file.tags or (
            read_boolean(self.skip_exported) and is_moved(export, export.file, volumes)
        )

    def _entry(self, export: PlannedExport) -> TrackedExport:
        entry = TrackedExport(export.request, message=export.note, needs_check=True)
        if file := export.file:
            entry.name, entry.size, entry.project, entry.path = file.name, file.size, file.project, export.path
            entry.tags = _first(file.tags) if self._manifest else ()
            entry.metadata = {key: file.metadata.get(key) for key in self.manifest_metadata}
            entry.needs_check = file.is_alias or file.is_folder
        return entry

    def _new_entry(self, export: PlannedExport) -> TrackedExport:
        """Return the entry of a file that is not exported yet, with its problem if it has one."""
        entry, file, problem = self._entry(export), export.file, export.problem
        skips = read_boolean(self.skip_not_exportable) and file is not None and entry.needs_check
        if skips and file and file.is_alias and read_boolean(self.skip_exported):
            # An alias of another object: no check is needed to leave it alone.
            problem = problem or " ".join(alias_problem(file))
        if problem:
            entry.state, entry.message = SKIPPED if skips else REFUSED, problem
            entry.code = NOT_EXPORTABLE if entry.needs_check and file else export.code
            level, what = (INFO, "is skipped") if skips else (WARNING, "cannot be exported")
            self.log.log(level, "File %s (%s) %s: %s", export.request.file, entry.label, what, problem)
        return entry

    def _planned(self, context: Context, batch: Batch[TrackedExport]) -> None:
        self._show_plan(batch.entries)
        self._show(batch)
        self._write_manifest(context, batch.entries)

    def _show_progress(self, batch: Batch[TrackedExport]) -> None:
        self.log.info(batch.progress(time.time()))
        self._show(batch)

    def _failed(self, context: Context, batch: Batch[TrackedExport], entries: Iterator[TrackedExport]) -> None:
        # The manifest comes first: the tab matters less, and fails if the connection is gone.
        self._write_manifest_quietly(context, entries)
        self._show(batch)

    def _review(self, context: Context, batch: Batch[TrackedExport], entries: Iterator[TrackedExport]) -> None:
        reported: Counter[tuple[str, str, bool]] = Counter()

        def is_reported(entry: TrackedExport) -> bool:
            kind = (entry.request.volume, entry.state, entry.done_before)
            reported[kind] += 1
            return entry.bad or entry.may_go_on or reported[kind] <= MAX_REPORTED

        if read_boolean(self.verify):
            entries = verify_exports(self.hook, entries)
        if self._tag is not None:
            entries = self._tag_exported(entries, self._tag)
        try:
            self._write_manifest(context, batch.review(entries, is_reported))
        finally:
            self._show(batch)

    def _finish(self, context: Context, batch: Batch[TrackedExport], timed_out: bool) -> dict[str, Any]:
        summary = batch.summary(time.time(), self._manifest)
        context["ti"].xcom_push(key="summary", value=summary)
        if hook_lineage_is_read():
            with suppress(SevenBridgesError):
                self._volumes({entry.request.volume for entry in batch.entries})
        if timed_out:
            raise SevenBridgesExportTimeout(
                f"The time for this task is over (timeout={self.timeout} seconds from its first try): "
                f"{batch.progress(time.time())} Exports in flight continue: the Platform cannot cancel them. To wait "
                "for them again, increase timeout and clear the task."
            )
        totals = batch.totals
        if totals.count(SKIPPED) == totals.total:
            self._report_nothing(batch)
        if batch.bad and self.on_error != "report":
            permanent = not any(entry.retriable for entry in batch.bad)
            raise SevenBridgesBatchFailed(batch.failure(self._manifest), permanent)
        if self.outlets:
            # An error here ends the task before it emits any event: a retry then emits all of them.
            self._volumes({entry.request.volume for entry in batch.entries})
        self._emit_asset_events(context)
        return summary

    def _tag_exported(self, entries: Iterator[TrackedExport], tag: str) -> Iterator[TrackedExport]:
        """Yield the entries; what is exported gets the tag, so that later runs leave it out.

        A file that cannot be tagged only costs later runs a request.
        """
        count, errors = 0, 0
        first: SevenBridgesError | None = None
        has_failed = False
        while together := list(islice(entries, _TAGGED_TOGETHER)):
            exported = [entry.request.file for entry in together if entry.done]
            count += len(exported)
            try:
                # An error of a whole call, after all retries, would only come again.
                results: Sequence[object] = [first] * len(exported) if has_failed else self.hook.add_tag(exported, tag)
            except SevenBridgesError as error:
                has_failed, first, results = True, first or error, [error] * len(exported)
            failed = [result for result in results if isinstance(result, SevenBridgesError)]
            errors, first = errors + len(failed), first or next(iter(failed), None)
            yield from together
        if errors:
            self.log.warning("%d of %d exported files did not get the tag %r: %s", errors, count, tag, first)

    def _report_nothing(self, batch: Batch[TrackedExport]) -> None:
        """Log that there is nothing to export, or end the task as ``on_empty`` says."""
        skipped = batch.totals.total
        text = f"There is nothing to export: {batch.left_out:,} files were exported before, {skipped:,} are skipped."
        if self.on_empty == "fail":
            raise SevenBridgesInputError(f"{text} To accept this, set on_empty to succeed or skip.")
        if self.on_empty == "skip":
            raise AirflowSkipException(text)
        self.log.info(text)

    def _reported(self) -> Report | None:
        if self._batch is None:
            return None
        return Report.of_batch(
            self._batch,
            self.hook.known_volumes,
            many=True,
            manifest=self._manifest,
            emits_adopted=self.emit_adopted,
        )

    @property
    def _manifest(self) -> str | None:
        return None if is_absent(self.manifest) else self.manifest

    def _manifest_for(self, context: Context) -> str | None:
        """Return the manifest's address if it may be written there.

        :raises ValueError: if not.
        """
        if self._manifest is None:
            return None
        address = check_address(self._manifest)
        prefix = self.manifest_prefix
        if prefix is None and context["ti"].map_index != -1:
            # The value of a mapped task may come from the result of another task.
            prefix = ""
        elif prefix is None and address != self._manifest_source:
            prefix = prefix_in_template(self._manifest_source)
        return address if prefix is None else check_below(address, prefix)

    @cached_property
    def _username(self) -> str | None:
        return self.hook.get_user().username

    def _write_manifest(self, context: Context, entries: Iterable[TrackedExport]) -> None:
        """Write the manifest if there is to be one; in any case, all entries are used up."""
        try:
            address = self._manifest_for(context)
        except ValueError as problem:
            raise SevenBridgesInputError(f"manifest: {problem}") from None
        if address is None:
            deque(entries, maxlen=0)
            return
        ti = context["ti"]
        run = {
            "username": self._username,
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": ti.map_index,
            "try_number": ti.try_number,
        }
        volumes: dict[str, Volume] = {}
        lines = manifest_lines(
            address, self._with_volumes(entries, volumes), volumes=volumes, metadata=self.manifest_metadata, run=run
        )
        path = ObjectStoragePath(address)
        # Complete before the first byte is written, since the old manifest is lost then.
        with SpooledTemporaryFile(_MANIFEST_IN_MEMORY) as text:
            text.writelines(lines)
            if not is_manifest_of(_head(path), address, run):
                raise SevenBridgesInputError(
                    f"manifest: {address} holds something that is not a manifest of this task; it is not replaced. "
                    "Choose another address."
                )
            text.seek(0)
            path.parent.mkdir(parents=True, exist_ok=True)
            with _unwrapped(path).open("wb") as file:
                shutil.copyfileobj(text, file)

    def _with_volumes(self, entries: Iterable[TrackedExport], volumes: dict[str, Volume]) -> Iterator[TrackedExport]:
        """Yield the entries, each after its volume is added to the volumes."""
        seen: set[str] = set()
        for entry in entries:
            if entry.request.volume not in seen:
                seen.add(entry.request.volume)
                volumes |= self._volumes({entry.request.volume})
            yield entry

    def _write_manifest_quietly(self, context: Context, entries: Iterable[TrackedExport]) -> None:
        try:
            self._write_manifest(context, entries)
        except Exception as error:
            self.log.error("The manifest cannot be written to %s: %s", self.manifest, error)

    def _volumes(self, ids: Iterable[str]) -> dict[str, Volume]:
        found = {volume: volume_or_none(self.hook, volume) for volume in ids}
        return {volume: details for volume, details in found.items() if details}

    def _validation_result(self, batch: Batch[TrackedExport]) -> dict[str, Any]:
        """Return what the task would do.

        :raises SevenBridgesBatchFailed: if something could not be done, as without a dry run.
        """
        volumes = self._volumes({entry.request.volume for entry in batch.entries})
        otherwise = "skipped" if read_boolean(self.skip_not_exportable) else "refused"
        rows = []
        for entry in batch.waiting:
            request = entry.request
            volume = volumes.get(request.volume)
            uri = object_uri(volume, request.location) if volume else None
            rows.append({"file": request.file, "name": entry.name, "size": entry.size, "uri": uri or request.location})
            doubt = f" (an alias, a folder, or not visible: it may be {otherwise})" if entry.needs_check else ""
            self.log.info("%s %s, %s bytes%s", request.file, entry.label, entry.size, doubt)
        size = sum(entry.size or 0 for entry in batch.waiting)
        self.log.info("Dry run: %d files, %d bytes. Nothing was changed.", len(rows), size)
        if batch.bad and self.on_error != "report":
            raise SevenBridgesBatchFailed(batch.failure(), permanent=True)
        return {
            "validate_only": True,
            "total": len(rows),
            "bytes": size,
            "exported_before": batch.left_out,
            "exports": rows[:_SHOWN_BY_VALIDATION],
            "counts": dict(Counter(entry.state for entry in batch.entries if entry.state != WAITING)),
        }


def _first(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the first tags, as many as fit into the stored entry of a file."""
    total = list(accumulate(len(tag) for tag in tags))
    return tuple(tags[: bisect_right(total, _MAX_TAGS)])


def _unwrapped(path: ObjectStoragePath) -> Any:
    """Return a path without Airflow's open(), which needs a provider for the scheme and reports to lineage."""
    return getattr(path, "__wrapped__", path)


def _head(path: ObjectStoragePath) -> bytes:
    try:
        with _unwrapped(path).open("rb") as file:
            head: bytes = file.read(HEAD_BYTES)
            return head
    except FileNotFoundError:
        return b""
    except (PermissionError, IsADirectoryError) as error:
        raise SevenBridgesInputError(
            f"manifest: {path} cannot be read ({error}), so nothing is replaced there. Choose another address, or "
            "give the worker read access to it."
        ) from error
