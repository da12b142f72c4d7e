"""The operator that exports many files in one task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow_sb_provider._compat import DateTimeTrigger, ObjectStoragePath, conf, hook_lineage_is_read
from airflow_sb_provider.api.models import File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesBatchFailed,
    SevenBridgesError,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
)
from airflow_sb_provider.exports.attempt import attempt_of
from airflow_sb_provider.exports.batch import Batch, Entry
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.manifest import check_address, manifest_text
from airflow_sb_provider.exports.report import Landing, Report
from airflow_sb_provider.exports.request import check_seconds, read_boolean
from airflow_sb_provider.exports.selection import Selection, check_batch, plan, read_exports
from airflow_sb_provider.exports.status import batch_status
from airflow_sb_provider.exports.waiting import MAX_IDS, POLL_INTERVAL, WEEK, Watch
from airflow_sb_provider.hooks.batch import BatchSubmitter
from airflow_sb_provider.hooks.failures import airflow_failures
from airflow_sb_provider.hooks.selection import list_selected
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.hooks.waiting import volume_or_none, wait
from airflow_sb_provider.links.addresses import folder_page, project_page
from airflow_sb_provider.links.export import (
    SevenBridgesDestinationLink,
    SevenBridgesProjectLink,
    SevenBridgesVolumeLink,
)
from airflow_sb_provider.operators.base import SevenBridgesOperator
from airflow_sb_provider.operators.ledger import Ledger
from airflow_sb_provider.operators.validate import volume_problems
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.request import ExportRequest

OnError = Literal["fail_at_end", "fail_fast", "report"]
_SELECTION_FIELDS = (
    "project",
    "folder",
    "file_ids",
    "recursive",
    "name",
    "tags",
    "metadata",
    "origin_task",
    "volume",
    "location_pattern",
    "secondary_files",
    "overwrite",
    "copy_only",
    "properties",
)
_SHOWN_BY_VALIDATION = 100


@dataclass(frozen=True)
class _Wanted:
    """What the templated fields mean."""

    requests: Sequence[ExportRequest]
    selection: Selection | None
    validate_only: bool
    manifest: str | None
    max_files: int | None


class SevenBridgesBulkExportOperator(SevenBridgesOperator):
    """Exports many files in one task: a list of exports, or a selection of a project.

    Returns, and pushes as XCom ``summary`` also when it fails, a small dict: ``state``, ``total``, ``counts`` by state,
    ``adopted``, ``bytes``, ``seconds``, ``errors`` (the first ten) and ``manifest``.

    .. note:: By default an export is a *move*, which cannot be undone, repeated or cancelled. Each file is exported
        once: a retry looks for what earlier tries did and asks only for what is missing. A task that is killed or times
        out leaves its exports running, and says so.

    API page: "Start multiple export jobs", https://docs.sevenbridges.com/reference/start-multiple-export-jobs

    :param exports: a list of mappings with ``file``, ``volume``, ``location`` and, if need be, ``overwrite``,
        ``copy_only``, ``properties``; also as text. Instead of a selection. (templated)
    :param project: ``owner/short-name`` of the project whose files are exported; or ``folder`` or ``file_ids``.
        (templated)
    :param folder: id of the folder. (templated)
    :param file_ids: a list of ids. (templated)
    :param recursive: takes the files of all folders below too. (templated)
    :param name: a glob or a list of them: ``*.{bam,cram}``. (templated)
    :param tags: any of these tags. (templated)
    :param metadata: for each field a value or a list of them. (templated)
    :param origin_task: id of the Platform's task that made the files. (templated)
    :param volume: id of the destination volume, for a selection. (templated)
    :param location_pattern: the key of each object: text with ``{path}``, ``{name}``, ``{stem}``, ``{suffix}``,
        ``{id}``, ``{project}``, ``{project_owner}``, ``{metadata[field]}``. (templated)
    :param secondary_files: takes index files (``.bai``, ``.tbi``, ...) along. (templated)
    :param overwrite: deletes objects that are at the destinations first; as a move this can destroy the only copy of
        other files. Costs a request for each file. (templated)
    :param copy_only: copies, so that the Platform keeps the files. (templated)
    :param properties: as in `SevenBridgesExportOperator`. (templated)
    :param validate_only: checks everything, changes nothing, and says what would be done. (templated)
    :param manifest: where an audit record of every file is written: any address that Airflow's ``ObjectStoragePath``
        takes, ending in ``.jsonl`` or ``.csv``. (templated)
    :param max_files: refuses to start if there are more. (templated)
    :param sevenbridges_conn_id: the Airflow connection. (templated)
    :param on_error: ``fail_at_end`` lets all others finish first, ``fail_fast`` asks for nothing more after the first
        bad one, ``report`` never fails for a bad file.
    :param manifest_metadata: the metadata fields that the manifest shows.
    :param max_active: how many exports are in flight at most, up to 1000.
    :param deferrable: waits in the triggerer, without a worker slot.
    :param poll_interval: seconds between two looks at the jobs.
    :param timeout: seconds from the start of the first try after which the task fails; None for never.
    """

    template_fields: Sequence[str] = (
        "exports",
        *_SELECTION_FIELDS,
        "validate_only",
        "manifest",
        "max_files",
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
    _batch: Batch | None = None

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
        volume: str | None = None,
        location_pattern: str = "{path}/{name}",
        secondary_files: bool | str = False,
        overwrite: bool | str = False,
        copy_only: bool | str = False,
        properties: dict[str, str | None] | str | None = None,
        validate_only: bool | str = False,
        manifest: str | None = None,
        max_files: int | str | None = 10_000,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        on_error: OnError = "fail_at_end",
        manifest_metadata: Sequence[str] = (),
        max_active: int = MAX_IDS,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = WEEK,
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
        self.volume = volume
        self.location_pattern = location_pattern
        self.secondary_files = secondary_files
        self.overwrite = overwrite
        self.copy_only = copy_only
        self.properties = properties
        self.validate_only = validate_only
        self.manifest = manifest
        self.max_files = max_files
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.on_error = on_error
        self.manifest_metadata = list(manifest_metadata)
        self.max_active = max_active
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        check_seconds(poll_interval=poll_interval, timeout=timeout)
        problems = []
        if on_error not in get_args(OnError):
            problems.append(f"on_error: {on_error!r} is not known; use {', '.join(get_args(OnError))}.")
        active: object = max_active
        if isinstance(active, bool) or not isinstance(active, int) or not 1 <= active <= MAX_IDS:
            problems.append(f"max_active: {active!r} is no whole number from 1 to {MAX_IDS}.")
        if problems:
            raise SevenBridgesInputError(problems)

    def execute(self, context: Context) -> dict[str, Any]:
        """Export what is meant and not exported yet."""
        with airflow_failures(), self._shown(context):
            wanted = self._checked()
            entries = self._plan(wanted)
            if wanted.validate_only:
                self._show(Batch(entries, time.time(), 0), state="DRY_RUN")
                return self._tell(entries)
            ledger = Ledger(context)
            batch = self._begin(context, entries, ledger)
            self._show(batch)
            self._write_manifest(context, batch)
            ledger.start(batch)
            return self._export(context, batch, ledger)

    def resume(self, context: Context, event: Any) -> dict[str, Any]:
        """Go on when the trigger has ended: enough exports have, or a request in doubt can be looked for again."""
        with airflow_failures(), self._shown(context, resumed=True):
            ledger = Ledger(context)
            batch = ledger.load()
            if batch is None or ledger.has_lost:
                raise SevenBridgesInDoubt(
                    "What this task has asked for is not, or not all, in Airflow's database any more. The exports go "
                    "on; a retry looks for them before it asks for anything."
                )
            return self._export(context, batch, ledger, ended=bool(batch.in_flight), timed_out=_is_timeout(event))

    def on_kill(self) -> None:
        """Say that the exports go on: the API has no cancel."""
        if self._batch and (in_flight := len(self._batch.in_flight)):
            self.log.warning(
                "The task is ended, but %d exports go on at the Platform, which has no cancel. "
                "A retry or a cleared task waits for them instead of starting others.",
                in_flight,
            )

    def _show(self, batch: Batch, **more: Any) -> None:
        """Show how far it is; the volumes have been looked at already."""
        projects = {entry.project for entry in batch.entries if entry.project}
        project = projects.pop() if len(projects) == 1 else None
        volumes = self.hook.known_volumes
        source = f"project {project}" if project else self._status["source"]
        status = batch_status(batch, volumes, source, time.time(), self._manifest)
        ids = {entry.request.volume for entry in batch.entries}
        volume = volumes.get(ids.pop()) if len(ids) == 1 else None
        endpoint = self.hook.settings.endpoint
        self._status.link(
            {
                SevenBridgesProjectLink: project_page(endpoint, project),
                SevenBridgesVolumeLink: folder_page(endpoint, object_uri(volume, "")) if volume else None,
                SevenBridgesDestinationLink: folder_page(endpoint, status["uri"]),
            }
        )
        # In a process that goes on after a deferral nothing has told of the volumes.
        self._status.show(**status | {"uri": status["uri"] or self._status["uri"]} | more)

    def _checked(self) -> _Wanted:
        problems: list[str] = []

        def read(field: str, reader: Any, value: object, default: Any) -> Any:
            try:
                return reader(value)
            except SevenBridgesInputError as error:
                problems.extend(error.problems)
            except ValueError as problem:
                problems.append(f"{field}: {problem}")
            return default

        selection: Selection | None = None
        requests: list[ExportRequest] = []
        if _is_given(self.exports):
            chosen = [field for field in ("project", "folder", "file_ids") if _is_given(getattr(self, field))]
            problems += [f"{field}: give either exports or a selection, not both." for field in chosen]
            requests = read("exports", read_exports, self.exports, [])
        else:
            fields = {field: getattr(self, field) for field in _SELECTION_FIELDS}
            selection = read("selection", lambda fields: Selection.checked(**fields), fields, None)
        problems += self._connection_problems()
        wanted = _Wanted(
            requests,
            selection,
            validate_only=read("validate_only", read_boolean, self.validate_only, False),
            manifest=read("manifest", check_address, self._manifest, None) if self._manifest else None,
            max_files=read("max_files", _read_count, self.max_files, None) if _is_given(self.max_files) else None,
        )
        if problems:
            raise SevenBridgesInputError(problems)
        return wanted

    def _plan(self, wanted: _Wanted) -> list[Entry]:
        """Return what is to be exported; nothing is asked for yet."""
        files: list[File | SevenBridgesApiError]
        if wanted.selection:
            self.log.info("Looking for the files of %s.", readable(str(wanted.selection), 1000))
            planned = plan(wanted.selection, list_selected(self.hook, wanted.selection))
            requests, paths = [each.request for each in planned], [each.path for each in planned]
            files = [each.file for each in planned]
        else:
            requests, paths = list(wanted.requests), [""] * len(wanted.requests)
            files = []
        volumes = self._volumes(requests)
        problems = [problem for volume in volumes.values() for problem in volume_problems(volume)]
        if problems:
            raise SevenBridgesInputError(problems)
        check_batch(requests, volumes, wanted.max_files)
        files = files or self.hook.get_files([request.file for request in requests])
        return [self._entry(request, file, path) for request, file, path in zip(requests, files, paths, strict=True)]

    def _entry(self, request: ExportRequest, file: File | SevenBridgesApiError, path: str) -> Entry:
        if not isinstance(file, File):
            return Entry(request, needs_look=True)
        return Entry(
            request,
            name=file.name,
            size=file.size,
            project=file.project,
            path=path,
            metadata={key: file.metadata.get(key) for key in self.manifest_metadata},
            needs_look=file.is_alias or file.is_folder,
        )

    def _begin(self, context: Context, entries: list[Entry], ledger: Ledger) -> Batch:
        """Return the batch of this try, with what earlier ones have done."""
        ti, now = context["ti"], time.time()
        before = ledger.load() if ledger.has_store else None
        gateway_timeout = self.hook.settings.gateway_timeout
        known = {entry.request.file: entry for entry in before.entries} if before else {}
        left_out = dict(before.left_out) if before else {}
        for entry in entries:
            earlier = known.pop(entry.request.file, None)
            attempt = attempt_of(
                entry.request,
                record=earlier.record if earlier else None,
                # A record that is lost may have told of a request.
                has_store=ledger.has_store and not ledger.has_lost,
                credential=self.hook.settings.credential,
                try_number=ti.try_number,
                max_tries=ti.max_tries,
                retries=self.retries or 0,
                started_at=now,
                gateway_timeout=gateway_timeout,
            )
            doubt = left_out.pop(entry.request.file, None)
            if earlier:
                doubt = earlier.doubt_until(gateway_timeout)
                if earlier.request.fingerprint == entry.request.fingerprint:
                    entry.remember(earlier)
            elif doubt is None:
                doubt = attempt.doubt_until
            entry.attempt = replace(
                attempt, doubt_until=doubt, untroubled=attempt.untroubled and not (entry.needs_look or doubt)
            )
        left_out |= {file: until for file, entry in known.items() if (until := entry.doubt_until(gateway_timeout))}
        is_retry = before is not None and before.max_tries == ti.max_tries
        return Batch(entries, before.started_at if before and is_retry else now, ti.max_tries, left_out)

    def _export(
        self, context: Context, batch: Batch, ledger: Ledger, *, ended: bool = False, timed_out: bool = False
    ) -> dict[str, Any]:
        """Ask, wait for half of them, ask for more, until all are exported or bad."""
        self._batch = batch
        submitter = BatchSubmitter(
            self.hook, ledger.save, max_tries=batch.max_tries, fail_fast=self.on_error == "fail_fast"
        )
        try:
            if ended:
                self._take(submitter, batch, ledger)
            while not timed_out:
                look_again_at = submitter.submit(batch, self.max_active)
                self.log.info(batch.progress(time.time()))
                self._show(batch)
                if self._is_over(batch):
                    break
                if batch.in_flight:
                    timed_out = self._wait(submitter, batch, ledger)
                elif look_again_at:
                    self._pause(look_again_at)
        except Exception:
            # The record first: what is shown matters less, and could fail where the connection is gone.
            self._write_manifest_quietly(context, batch)
            self._show(batch)
            self._report = self._reported(batch)
            raise
        return self._finish(context, batch, timed_out and not self._is_over(batch))

    def _is_over(self, batch: Batch) -> bool:
        return (self.on_error == "fail_fast" and bool(batch.bad)) or not (batch.in_flight or batch.waiting)

    def _take(self, submitter: BatchSubmitter, batch: Batch, ledger: Ledger) -> None:
        in_flight = batch.in_flight
        submitter.take(in_flight, self.hook.get_exports([entry.export_id or "" for entry in in_flight]))
        ledger.save(in_flight)

    def _wait(self, submitter: BatchSubmitter, batch: Batch, ledger: Ledger) -> bool:
        """Wait for half of what is in flight, or for all if no more is to come; return whether the time is over."""
        ids = [entry.export_id or "" for entry in batch.in_flight]
        enough = -(-len(ids) // 2) if batch.waiting else None
        end_time = None if self.timeout is None else batch.started_at + self.timeout
        fail_fast = self.on_error == "fail_fast"
        if self.deferrable:
            trigger = SevenBridgesExportTrigger(
                ids, self.sevenbridges_conn_id, self.poll_interval, end_time, enough=enough, fail_fast=fail_fast
            )
            self.defer(trigger=trigger, method_name="resume")
        watch = Watch(ids, end_time, enough=enough, fail_fast=fail_fast)
        event = wait(self.hook, watch, self.poll_interval, self._status.follow)
        self._take(submitter, batch, ledger)
        return bool(event["status"] == "timeout")

    def _pause(self, until: float) -> None:
        seconds = until - time.time()
        self.log.info("Nothing is found of exports that may have been asked for; looking again in %.0f s.", seconds)
        if self.deferrable and seconds > 0:
            self.defer(trigger=DateTimeTrigger(moment=datetime.fromtimestamp(until, UTC)), method_name="resume")
        time.sleep(max(seconds, 0.0))

    def _finish(self, context: Context, batch: Batch, timed_out: bool) -> dict[str, Any]:
        self._show(batch)
        self._write_manifest(context, batch)
        summary = batch.summary(time.time(), self._manifest)
        context["ti"].xcom_push(key="summary", value=summary)
        if hook_lineage_is_read():
            with suppress(SevenBridgesError):
                self._volumes([entry.request for entry in batch.entries])
        self._report = self._reported(batch)
        if timed_out:
            raise SevenBridgesExportTimeout(
                f"The time for this task is over (timeout={self.timeout} s from its first try): "
                f"{batch.progress(time.time())} What is in flight goes on at the Platform, which has no cancel; "
                "a cleared task with a longer timeout waits for it again."
            )
        if batch.bad and self.on_error != "report":
            permanent = not any(entry.retriable for entry in batch.bad)
            raise SevenBridgesBatchFailed(batch.failure(self._manifest), permanent)
        if self.outlets:
            # A retry tells them if the addresses cannot be found now.
            self._volumes([entry.request for entry in batch.entries])
        self._announce(context, self._reported(batch))
        return summary

    def _reported(self, batch: Batch) -> Report:
        volumes = self.hook.known_volumes
        landings = [Landing.of_entry(entry, volumes.get(entry.request.volume)) for entry in batch.entries]
        return Report(landings, many=True, manifest=self._manifest)

    @property
    def _manifest(self) -> str | None:
        return self.manifest if _is_given(self.manifest) else None

    def _write_manifest(self, context: Context, batch: Batch) -> None:
        if not self._manifest:
            return
        ti = context["ti"]
        run = {
            "username": self.hook.get_user().username,
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": ti.map_index,
            "try_number": ti.try_number,
        }
        volumes = self._volumes([entry.request for entry in batch.entries])
        text = manifest_text(self._manifest, batch.entries, volumes=volumes, metadata=self.manifest_metadata, run=run)
        path = ObjectStoragePath(self._manifest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _write_manifest_quietly(self, context: Context, batch: Batch) -> None:
        try:
            self._write_manifest(context, batch)
        except Exception as error:
            self.log.error("The manifest cannot be written to %s: %s", self.manifest, error)

    def _volumes(self, requests: Sequence[ExportRequest]) -> dict[str, Volume]:
        found = {volume: volume_or_none(self.hook, volume) for volume in {request.volume for request in requests}}
        return {volume: details for volume, details in found.items() if details}

    def _tell(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Say what would be done."""
        volumes = self._volumes([entry.request for entry in entries])
        rows = []
        for entry in entries:
            request = entry.request
            volume = volumes.get(request.volume)
            uri = object_uri(volume, request.location) if volume else None
            rows.append({"file": request.file, "name": entry.name, "size": entry.size, "uri": uri or request.location})
            doubt = " (an alias, a folder, or not to be seen: it may be refused)" if entry.needs_look else ""
            name, place = readable(entry.name or request.file), readable(uri or request.location, 1500)
            self.log.info("%s -> %s, %s bytes%s", name, place, entry.size, doubt)
        size = sum(entry.size or 0 for entry in entries)
        self.log.info("Dry run: %d files, %d bytes. Nothing was changed.", len(entries), size)
        return {
            "validate_only": True,
            "total": len(entries),
            "bytes": size,
            "exports": rows[:_SHOWN_BY_VALIDATION],
        }


def _is_timeout(event: object) -> bool:
    # Airflow's own trigger for a moment yields that moment.
    return isinstance(event, Mapping) and event.get("status") == "timeout"


def _is_given(value: object) -> bool:
    return value is not None and value not in ("", "None")


def _read_count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str) and value.strip().isdigit() and int(value) > 0:
        return int(value)
    raise ValueError(f"{value!r} is no whole number above 0; use one, or None for any number.")
