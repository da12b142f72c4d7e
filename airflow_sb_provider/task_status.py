"""What a task's own tab and links show: small plain XComs, which the operator and its trigger write.

The tab has two keys, so that neither has to read what the other wrote: the operator's status holds what is exported,
where to and what became of it; the progress holds what the wait has seen since. ``plugins/page/status.schema.json``
describes both for the tab's script. Nothing here ever fails a task.
"""

from __future__ import annotations

import logging
import os.path
import time
from typing import TYPE_CHECKING, Any, Self

from airflow_sb_provider._compat import HAS_XCOM_BACKEND, PlainXCom
from airflow_sb_provider.api.text import LONGEST, cut, readable
from airflow_sb_provider.api.times import isoformat_utc
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesBatchFailed,
    SevenBridgesError,
    SevenBridgesExportFailed,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.jobs.progress import progress_key, progress_status
from airflow_sb_provider.jobs.tracked import WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.tracked import TrackedExport
    from airflow_sb_provider.jobs.batch import Batch
    from airflow_sb_provider.jobs.watch import Watch

log = logging.getLogger(__name__)

STATUS = "sevenbridges_export_status"
PROGRESS = progress_key(EXPORT)


class TaskStatus:
    """Writes one task instance's status; what an earlier process of the same try wrote is kept.

    As a context it writes the error that ends it.

    ``links`` are the addresses that this process knows for the task's links, by XCom key.

    :param context: the task's context.
    :param kind: ``export`` or ``bulk``.
    :param resumed: whether the task goes on after a deferral.
    """

    def __init__(self, context: Context, kind: str, *, resumed: bool = False) -> None:
        self.links: dict[str, str] = {}
        self._ti: Any = context["ti"]
        self._status: dict[str, Any] = {
            "kind": kind,
            "try_number": getattr(self._ti, "try_number", None),
            **(self._earlier() if resumed else {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Of a batch the files that failed are shown already.
        if isinstance(error, SevenBridgesError) and not isinstance(error, SevenBridgesBatchFailed):
            self.show(error=error_status(error))

    def __getitem__(self, name: str) -> Any:
        return self._status.get(name)

    def note(self, **fields: Any) -> None:
        """Have these fields written with the next status."""
        self._status |= fields

    def show(self, **fields: Any) -> None:
        """Write the status with these fields anew; of the file, what is not known any more stays."""
        if file := fields.get("file"):
            earlier = self["file"] or {}
            fields["file"] = {key: earlier.get(key) if value is None else value for key, value in file.items()}
        self._status |= {**fields, "at": isoformat_utc(time.time())}
        self._push(STATUS, shown(self._status))

    def follow(self, watch: Watch[Any], note: str | None) -> None:
        """Write what a wait in the worker has seen."""
        self._push(progress_key(watch.kind), progress_status(watch, note, time.time()))

    def link(self, links: Mapping[type[BaseOperatorLink], str | None]) -> None:
        """Have links lead to these addresses; None where one is not known."""
        for kind, address in links.items():
            key = kind().xcom_key
            if address and self.links.get(key) != address:
                self.links[key] = address
                self._push(key, address)

    def _push(self, key: str, value: Any) -> None:
        ti = self._ti
        try:
            if HAS_XCOM_BACKEND:
                # Airflow's pages show what its database has, where a backend leaves a reference.
                task = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
                PlainXCom.set(key=key, value=value, **task)
            else:
                ti.xcom_push(key=key, value=value)
        except Exception as error:
            log.debug("What the task shows could not be written: %s", error)

    def _earlier(self) -> dict[str, Any]:
        ti = self._ti
        try:
            if HAS_XCOM_BACKEND:
                status = PlainXCom.get_value(ti_key=ti, key=STATUS)
            else:
                status = ti.xcom_pull(task_ids=ti.task_id, key=STATUS, map_indexes=ti.map_index)
        except Exception as error:
            log.debug("What the task showed could not be read: %s", error)
            return {}
        return dict(status) if isinstance(status, dict) else {}


def batch_status(
    batch: Batch[TrackedExport], volumes: Mapping[str, Volume], source: str | None, now: float, manifest: str | None
) -> dict[str, Any]:
    """Return how far many exports are.

    :param volumes: by id, those that the token may see.
    :param source: where the files come from, in words.
    """
    requests = [entry.request for entry in batch.entries]
    copies, overwrites = ({getattr(each, name) for each in requests} for name in ("copy_only", "overwrite"))
    ids = {each.volume for each in requests}
    common = os.path.commonprefix([each.location for each in requests if each.location])  # noqa: RUF071 - cut at a slash below
    folder, _, _ = common.rpartition("/")
    volume = volumes.get(next(iter(ids))) if len(ids) == 1 else None
    return {
        **batch.summary(now, manifest),
        # The Platform may have accepted them: they are neither in flight for sure nor still to be submitted.
        "unanswered": sum(entry.state == WAITING and entry.is_unanswered for entry in batch.entries),
        "bytes_total": batch.totals.bytes_wanted,
        "started_at": isoformat_utc(batch.started_at),
        "source": cut(source),
        "volume": ", ".join(sorted(ids)[:3]) + (" ..." if len(ids) > 3 else ""),
        "uri": object_uri(volume, f"{folder}/" if folder else "") if volume else None,
        # Of some that are copied and some that are moved neither is said.
        "copy_only": copies.pop() if len(copies) == 1 else None,
        "overwrite": any(overwrites),
    }


def error_status(error: SevenBridgesError) -> dict[str, Any]:
    """Return why an export was not made: ``outcome`` and the Platform's or our own words, with the advice apart."""
    cause: SevenBridgesError | None = error
    more = ""
    if isinstance(error, SevenBridgesExportFailed):
        outcome, cause, more = "FAILED", error.job.error, error.cause
    elif isinstance(error, SevenBridgesExportTimeout):
        outcome = "TIMEOUT"
    elif isinstance(error, SevenBridgesInDoubt | SevenBridgesReplyLost):
        outcome = "IN_DOUBT"
    else:
        outcome = "REFUSED" if error.permanent else "ERROR"
    told: dict[str, Any] = {"outcome": outcome}
    if isinstance(cause, SevenBridgesApiError):
        told |= {"message": cut(cause.message), "advice": cut(more or cause.advice or "")}
        told |= {"code": cause.code, "http_status": cause.status or None, "request_id": cause.request_id}
        told["more_info"] = cut(cause.more_info)
    else:
        told |= {"message": cut(str(cause or "The Platform gave no reason.")), "advice": cut(more)}
    return {key: value for key, value in told.items() if value not in (None, "")}


def shown(value: Any) -> Any:
    """Return plain data with every text in it readable, as it is shown."""
    if isinstance(value, str):
        return readable(value, LONGEST)
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value
