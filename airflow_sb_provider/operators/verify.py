"""Operator that compares the objects of an earlier manifest with the bucket."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

from airflow_sb_provider._compat import BaseOperator, ObjectStoragePath
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.engine.verification import verify
from airflow_sb_provider.exceptions import SevenBridgesInputError, SevenBridgesVerificationFailed
from airflow_sb_provider.exports.manifest import check_address, read_manifest
from airflow_sb_provider.failures import airflow_failures
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import Problems, read_text
from airflow_sb_provider.jobs.batch import ERRORS_REPORTED
from airflow_sb_provider.rendering import RendersAuthorsText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.exports.verification import ExpectedObject, Verdict, Verification

OnDifference = Literal["fail", "report"]

_COUNTED = ("verified", "missing", "changed", "unknown")
_SHOWN_ADDRESS = 1500


class SevenBridgesVerifyExportsOperator(RendersAuthorsText, BaseOperator):
    """Compare the objects of an earlier bulk export with the bucket.

    Reads the manifest of a `SevenBridgesBulkExportOperator`, and compares the object of each row whose state is
    ``COMPLETED``: its size, and its checksums or its ETag where the manifest has them.

    Returns a small dict: ``total`` (the compared rows), ``verified``, ``missing``, ``changed``, ``unknown`` (there is
    an object, but nothing about it can be compared), and ``errors`` (the first ten that are missing or changed:
    ``file``, ``uri``, ``state``, ``message``). The operator also pushes it as XCom ``summary``, even if the task fails.

    .. note:: A folder of the bucket is listed, at one request per hundred of its objects, where that costs less than
        one request per object. The token's user needs the read permission on the volumes.

    :param manifest: the address of the manifest: any URL or path that Airflow's ``ObjectStoragePath`` accepts, ending
        in ``.jsonl`` or ``.csv``. (templated)
    :param sevenbridges_conn_id: ID of the Airflow connection. (templated)
    :param on_error: ``fail`` fails the task, without retries, if an object is missing or changed; ``report`` only
        returns the result.
    :raises SevenBridgesVerificationFailed: naming the first missing and the first changed object.
    :raises SevenBridgesInputError: for a manifest that cannot be read; it names the line.
    """

    ui_color = "#e3f1ee"
    template_fields: Sequence[str] = ("manifest", "sevenbridges_conn_id")

    def __init__(
        self,
        *,
        manifest: str,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        on_error: OnDifference = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.on_error = on_error
        if on_error not in get_args(OnDifference):
            known = ", ".join(get_args(OnDifference))
            raise SevenBridgesInputError(f"on_error: {on_error!r} is not known; use {known}.")

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare each completed export of the manifest with its object."""
        with airflow_failures():
            address = self._checked()
            shown = readable(address, _SHOWN_ADDRESS)
            self.log.info("Comparing the objects of the manifest %s with the bucket.", shown)
            counts: Counter[str] = Counter()
            first: dict[Verdict, Verification] = {}
            errors: list[dict[str, Any]] = []
            with _opened(address) as file:
                for verification in verify(self.hook, self._completed(file, address)):
                    if verification.error:
                        raise verification.error
                    counts[verification.verdict] += 1
                    if verification.is_wrong:
                        first.setdefault(verification.verdict, verification)
                        if len(errors) < ERRORS_REPORTED:
                            errors.append(_error(verification))
                            self.log.warning("%s: %s", errors[-1]["file"], errors[-1]["message"])
            summary = {"total": counts.total(), **{name: counts[name] for name in _COUNTED}, "errors": errors}
            self.log.info("%s", ", ".join(f"{name}: {summary[name]:,}" for name in ("total", *_COUNTED)))
            context["ti"].xcom_push(key="summary", value=summary)
            if first and self.on_error == "fail":
                raise SevenBridgesVerificationFailed(_failure(shown, summary, first.values()), permanent=True)
            return summary

    def _checked(self) -> str:
        problems = Problems()
        address = problems.read("manifest", check_address, self.manifest, "")
        problems.read("sevenbridges_conn_id", _read_conn_id, self.sevenbridges_conn_id, "")
        problems.raise_if_any()
        return address

    def _completed(self, file: BinaryIO, address: str) -> Iterator[ExpectedObject]:
        left_out = 0
        for expected in read_manifest(file, address):
            if expected:
                yield expected
            else:
                left_out += 1
        if left_out:
            self.log.info("Left out %d rows whose export is not COMPLETED.", left_out)


@contextmanager
def _opened(address: str) -> Iterator[BinaryIO]:
    path = ObjectStoragePath(address)
    # Airflow's own open() needs a provider for the scheme.
    place: Any = getattr(path, "__wrapped__", path)
    try:
        file = place.open("rb")
    except FileNotFoundError:
        raise SevenBridgesInputError(
            f"manifest: there is nothing at {address}; give the address of an earlier export's manifest."
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise SevenBridgesInputError(
            f"manifest: what is at {address} cannot be read ({error}); let the worker read there."
        ) from error
    with file:
        yield file


def _read_conn_id(value: object) -> str:
    return read_text(value, "the ID of an Airflow connection")


def _error(verification: Verification) -> dict[str, Any]:
    expected = verification.expected
    return {
        "file": expected.file,
        "uri": expected.uri and readable(expected.uri, _SHOWN_ADDRESS),
        "state": str(verification.verdict),
        "message": _sentence(verification),
    }


def _failure(manifest: str, summary: Mapping[str, Any], first: Iterable[Verification]) -> str:
    """Return why the task fails, with the first object of each kind."""
    head = (
        f"{summary['missing']:,} of {summary['total']:,} objects of the manifest {manifest} are missing, and "
        f"{summary['changed']:,} changed:"
    )
    lines = [f"  {each.verdict:8} file {each.expected.file}: {_sentence(each)}" for each in first]
    return "\n".join([head, *lines, "A lifecycle rule, a person or another export may have removed or replaced them."])


def _sentence(verification: Verification) -> str:
    text = verification.difference
    return f"{text[:1].upper()}{text[1:]}."
