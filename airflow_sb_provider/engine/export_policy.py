"""The policy for exports: how they are checked and submitted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.policy import Policy
from airflow_sb_provider.engine.reconcile import export_lists, fetch_remote_state
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesError,
    SevenBridgesExportFailed,
    SevenBridgesNotExportable,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.exports.decision import NOT_EXPORTABLE, TAKEN, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.exports.tracked import TrackedExport
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.decision import Decision


class ExportPolicy(Policy["TrackedExport"]):
    """Checks and submits exports, up to a hundred at a time; `exports.decision` has the rules.

    :param hook: sends all requests.
    :param single: whether the task has one export, which is submitted with ``POST /storage/exports``.
    :param skip_not_exportable: whether to skip files that cannot be exported, instead of failing them.
    :param overwrite_aliased: whether an overwriting export may delete an object that other files are aliases of.
    """

    def __init__(
        self,
        hook: SevenBridgesHook,
        *,
        single: bool = False,
        skip_not_exportable: bool = False,
        overwrite_aliased: bool = False,
    ) -> None:
        self.hook = hook
        self.single = single
        self._skip_not_exportable = skip_not_exportable
        self._overwrite_aliased = overwrite_aliased
        self._lists = export_lists(hook)

    def needs_check(self, entry: TrackedExport) -> bool:
        """Whether to check the Platform first: not if nothing was submitted before and nothing is overwritten."""
        return not entry.submission.can_submit_unchecked or entry.request.overwrite

    def calls(self, entries: Sequence[TrackedExport]) -> list[list[TrackedExport]]:
        """Return groups of at most a hundred entries; copies, moves and overwriting moves are in separate groups.

        So are two copies of one file: a bulk response is matched by files, since the order of its jobs may be wrong.
        """
        groups: dict[tuple[bool, bool, int], list[list[TrackedExport]]] = {}
        times: Counter[str] = Counter()
        for entry in entries:
            request = entry.request
            times[request.file] += 1
            key = (request.copy_only, request.overwrite and not request.copy_only, times[request.file])
            chunks = groups.setdefault(key, [[]])
            if len(chunks[-1]) == calls.BULK_LIMIT:
                chunks.append([])
            chunks[-1].append(entry)
        return [chunk for chunks in groups.values() for chunk in chunks if chunk]

    def decide(self, entries: Sequence[TrackedExport], since: float) -> list[Decision]:
        """Check the Platform and return what to do about each entry, in order; see `Policy.decide`."""
        if any(self._needs_new_lists(entry) for entry in entries):
            since = time.monotonic()
        requests, submissions = [entry.request for entry in entries], [entry.submission for entry in entries]
        facts = fetch_remote_state(
            self.hook, requests, submissions, self._lists, since, overwrite_aliased=self._overwrite_aliased
        )
        delay = self.hook.settings.visibility_delay
        return [
            entry.believe(decision, found.now, delay)
            for entry, found, decision in zip(entries, facts, decide(requests, facts), strict=True)
        ]

    def _needs_new_lists(self, entry: TrackedExport) -> bool:
        # An overwriting export must see all jobs in flight to its place; the others failed, perhaps due to a new job.
        submission = entry.submission
        return entry.request.overwrite or submission.refusal is not None or submission.job is not None

    def post(self, requests: Sequence[ExportRequest], send_by: float) -> Sequence[ExportJob | SevenBridgesApiError]:
        """Submit exports of one kind in one call."""
        copy_only = requests[0].copy_only
        if self.single:
            call = calls.start_export(requests[0], copy_only=copy_only)
            return [self.hook.send(replace(call, send_by=send_by), retry=False)]
        bulk_call = calls.start_exports(requests, copy_only=copy_only)
        answers = self.hook.send(replace(bulk_call, send_by=send_by), retry=False)
        return self._in_place(requests, answers)

    def _in_place(
        self, requests: Sequence[ExportRequest], answers: Sequence[ExportJob | SevenBridgesApiError]
    ) -> Sequence[ExportJob | SevenBridgesApiError]:
        """Return the answers in the order of the requests, also if jobs do not name their files: then fetch these."""
        brief = [job.id for job in answers if isinstance(job, ExportJob) and job.file is None]
        if not brief or len(requests) == 1:
            return answers
        # Their order is not documented: a job in a wrong place would be reported for another file.
        try:
            shown = {job.id: job for job in self.hook.get_exports(brief) if isinstance(job, ExportJob)}
        except SevenBridgesError as error:
            self.hook.log.warning("Cannot match %d new exports to their files yet: %s", len(brief), error)
            shown = {}
        by_file = {job.file: job for job in shown.values()}
        by_file |= {job.file: job for job in answers if isinstance(job, ExportJob) and job.file}
        unplaced = SevenBridgesUnreadableItem(
            200, message="The Platform's bulk answer does not say which export it is."
        )
        return [by_file.get(request.file, unplaced) for request in requests]

    def exported_since(self, start: float) -> set[str | None]:
        """Return the files of the completed exports that started at this time or later (epoch seconds), as listed."""
        jobs, _ = self._lists.history(time.monotonic())
        return {job.file for job in jobs if job.started_on is None or job.started_on.timestamp() >= start}

    def fetch(self, ids: Sequence[str]) -> Sequence[ExportJob | SevenBridgesApiError]:
        """Return the jobs of some ids, in order."""
        return self.hook.get_exports(ids)

    def adopting(self, entry: TrackedExport, job: Job) -> None:
        """Warn if an adopted job was submitted with other properties than wanted."""
        wanted, actual = dict(entry.request.properties or {}), dict(getattr(job, "properties", {}))
        if actual and any(actual.get(name) != value for name, value in wanted.items()):
            self.hook.log.warning(
                "File %s: export %s, which is adopted, was submitted with properties %s instead of %s.",
                entry.request.file,
                job.id,
                readable(str(actual), 300),
                wanted,
            )

    def without_effect(self, adopted: Sequence[tuple[TrackedExport, Job]]) -> set[TrackedExport]:
        """Return the moves whose adopted job was a copy: only the file shows it, jobs do not."""
        aliases: dict[str, bool] = {}
        for entry, job in adopted:
            if isinstance(job, ExportJob) and (file := job.exported_file):
                aliases[entry.request.file] = file.is_alias
        unknown = [entry.request.file for entry, _ in adopted if not aliases.get(entry.request.file)]
        files = self.hook.get_files(unknown) if unknown else []
        aliases |= {file.id: file.is_alias for file in files if isinstance(file, File)}
        for entry, job in adopted:
            if entry.request.copy_only and aliases.get(entry.request.file):
                self.hook.log.warning(
                    "Export %s, which was running already, was a move: file %s is now an alias of the object.",
                    job.id,
                    entry.request.file,
                )
        return {
            entry for entry, _ in adopted if not entry.request.copy_only and aliases.get(entry.request.file) is False
        }

    def may_be_done(self, refusal: SevenBridgesApiError) -> bool:
        """Whether the export may be done, by another task or by a request that was delivered twice."""
        return self.single or refusal.code in (NOT_EXPORTABLE, TAKEN)

    def skips(self, error: SevenBridgesError) -> bool:
        """Whether to skip a file with this error, because it cannot be exported."""
        if not self._skip_not_exportable:
            return False
        cause: Any = error.job.error if isinstance(error, SevenBridgesExportFailed) else None
        return isinstance(error, SevenBridgesNotExportable) or (cause is not None and cause.code == NOT_EXPORTABLE)
