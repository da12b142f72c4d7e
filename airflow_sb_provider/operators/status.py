"""What a task shows of itself while it runs: the XComs of its tab and of its links. It never fails a task."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Self

from airflow_sb_provider._compat import HAS_XCOM_BACKEND, PlainXCom
from airflow_sb_provider.exceptions import SevenBridgesBatchFailed, SevenBridgesError
from airflow_sb_provider.exports.status import STATUS, error_status, moment, shown
from airflow_sb_provider.jobs.progress import progress_key, progress_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.jobs.watch import Watch
    from airflow_sb_provider.links.export import SevenBridgesLink

log = logging.getLogger(__name__)


class TaskStatus:
    """Writes one task instance's status; what an earlier process of the same try wrote is kept.

    As a context it writes the error that ends it.

    :param operator: the task; ``known_links`` is what its links answer.
    :param context: the task's context.
    :param kind: ``export`` or ``bulk``.
    :param resumed: whether the task goes on after a deferral.
    """

    def __init__(self, operator: Any, context: Context, kind: str, *, resumed: bool = False) -> None:
        self._operator = operator
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
        """Write the status with these fields anew."""
        self._status |= {**fields, "at": moment(time.time())}
        self._push(STATUS, shown(self._status))

    def follow(self, watch: Watch[Any], note: str | None) -> None:
        """Write what a wait in the worker has seen."""
        self._push(progress_key(watch.kind), progress_status(watch, note, time.time()))

    def link(self, links: Mapping[type[SevenBridgesLink], str | None]) -> None:
        """Have links lead to these addresses; None where one is not known."""
        known: dict[str, str] = self._operator.known_links
        for kind, address in links.items():
            key = kind().xcom_key
            if address and known.get(key) != address:
                known[key] = address
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
