"""Parse the job ids that users, templates and XCom pass: one or a list, also as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.inputs import as_list, from_text
from airflow_sb_provider.jobs.watch import MAX_IDS

if TYPE_CHECKING:
    from airflow_sb_provider.jobs.kind import JobKind

_JOB_ID = re.compile(r"[\w-]+", re.ASCII)


def is_one_id(value: object) -> bool:
    """Whether a value means one id, not a list of them."""
    return isinstance(_parse_ids(value), str)


def read_job_ids(value: object, kind: JobKind[Any]) -> list[str]:
    """Parse one id or a list, also as text, without duplicates; None (or its text) means no ids.

    :param kind: the kind of job, for the error message.
    :raises SevenBridgesInputError: for anything else, and for more than 1000.
    """
    parsed = _parse_ids(value)
    values = [parsed] if isinstance(parsed, str) else parsed
    # An id of digits only is a number after native rendering.
    values = [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in values]
    wrong = [item for item in values if not isinstance(item, str) or not _JOB_ID.fullmatch(item)]
    if wrong:
        raise SevenBridgesInputError(
            f"{kind.parameter}: {wrong[0]!r} is not a valid {kind.name} id; "
            f"pass the XCom '{kind.id_key}' of the task that submitted the {kind.name}."
        )
    ids = list(dict.fromkeys(values))
    if len(ids) > MAX_IDS:
        raise SevenBridgesInputError(
            f"{kind.parameter}: {len(ids)} ids are too many; pass at most {MAX_IDS} to one sensor."
        )
    return ids


def _parse_ids(value: object) -> str | list[Any]:
    """Return one id or a list of ids; text may be an id, a list as JSON or Python writes it, or ``None``."""
    if value is None or (isinstance(value, str) and value.strip() in ("None", "null")):
        return []
    parsed = from_text(value)
    if isinstance(parsed, str):
        return parsed.strip()
    items = as_list(parsed)
    return [parsed] if items is None else [item for item in items if item is not None]
