"""The hook for workers, on requests; `hooks.sevenbridges_async` has the one for triggers, on aiohttp."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying

from airflow_sb_provider._compat import AirflowNotFoundException, BaseHook
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.environments import origin
from airflow_sb_provider.api.error_codes import NO_SUCH_OBJECT
from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.api.models import (
    File,
    RateLimit,
)
from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import in_words
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesReplyLost,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.results import raise_for_errors
from airflow_sb_provider.hooks.clock import PlatformClock
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME, ConnectionSettings, connection_failure
from airflow_sb_provider.hooks.polling import wait
from airflow_sb_provider.hooks.retry import clean, fail, no_response, retry_rules
from airflow_sb_provider.hooks.task_methods import TaskMethods
from airflow_sb_provider.inputs import check_seconds, read_ids
from airflow_sb_provider.jobs.rate_limiter import seconds_until_allowed
from airflow_sb_provider.jobs.watch import DEFAULT_TIMEOUT, POLL_INTERVAL, Watch
from airflow_sb_provider.xcoms import allow_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import requests

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import (
        ExportJob,
        Page,
        User,
        Volume,
        VolumeObject,
    )
    from airflow_sb_provider.api.task import Task
    from airflow_sb_provider.api.values import Json
    from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook

__all__ = ["SevenBridgesAsyncHook", "SevenBridgesHook", "has_next"]

T = TypeVar("T")
Listed = TypeVar("Listed", "ExportJob", "File", "Volume", "Task")

MAX_PAGES = 1000
# A million objects: a longer list has a wrong next link.
MAX_VOLUME_PAGES = 10_000
MAX_READS = 3
IDS_SHOWN = 50

allow_results()


class SevenBridgesHook(TaskMethods, BaseHook):
    """Interact with the Seven Bridges Platform, from workers.

    Every method raises `SevenBridgesApiError` for an error that the Platform reports, `SevenBridgesConnectionError` if
    the Platform does not respond, and `SevenBridgesInputError` if the connection or an argument is invalid.

    .. note:: Requests are retried, except a POST that starts exports once it may have been accepted.

    ``rate_limit`` is that of the last response, ``clock`` the Platform's time.

    :param sevenbridges_conn_id: the Airflow connection, of type ``sevenbridges``.
    """

    conn_name_attr = "sevenbridges_conn_id"
    default_conn_name = DEFAULT_CONN_NAME
    conn_type = "sevenbridges"
    hook_name = "Seven Bridges"

    def __init__(self, sevenbridges_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self._volumes: dict[str, Volume] = {}
        self.rate_limit: RateLimit | None = None
        self.clock = PlatformClock()

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The settings in the connection, validated.

        :raises AirflowNotFoundException: if there is no such connection.
        :raises SevenBridgesInputError: if it is invalid.
        :raises SevenBridgesConnectionError: if Airflow cannot return it after some attempts.
        """
        settings: ConnectionSettings = Retrying(**retry_rules(self.log))(self._load_settings)
        return settings

    def _load_settings(self) -> ConnectionSettings:
        try:
            connection = self.get_connection(self.sevenbridges_conn_id)
        except AirflowNotFoundException:
            raise
        except Exception as error:
            failure = connection_failure(self.sevenbridges_conn_id, error)
        else:
            return ConnectionSettings.from_connection(connection)
        raise failure

    def reconnect(self) -> None:
        """Read the connection again: its token may have been replaced."""
        self.__dict__.pop("settings", None)
        self.__dict__.pop("_session", None)

    def get_conn(self) -> requests.Session:
        """Return the session for all requests. It does not hold the token."""
        return self._session

    @cached_property
    def _session(self) -> requests.Session:
        from airflow_sb_provider.hooks.transport import Session

        session = Session()
        session.headers.update(self.settings.headers)
        return session

    def send(self, call: Call[T], *, retry: bool = True) -> T:
        """Send a call, retry it where that is safe, and return its result.

        :param retry: false to send it only once, for callers who retry themselves.
        :raises SevenBridgesReplyLost: if a call that must not be repeated may have been accepted.
        """
        # Read the connection first, since that has its own retries.
        _ = self.settings
        if call.idempotent:
            self.wait_for_rate_limit()
        if not retry:
            return self._send_once(call)
        result: T = Retrying(**retry_rules(self.log))(self._send_once, call)
        return result

    def _send_once(self, call: Call[T]) -> T:
        # Needed only in a worker, and slow to import.
        from airflow_sb_provider.hooks.transport import (
            RequestBody,
            RequestException,
            TokenAuth,
            innermost_text,
            receive,
            was_sent,
            within,
        )

        settings = self.settings
        # A request that this method no longer waits for must not be sent.
        send_by = min(time.monotonic() + settings.total_timeout, call.send_by)
        body = None if call.body is None else RequestBody(call.body, send_by)

        def exchange() -> T:
            response = self._session.request(
                call.method,
                settings.address(call),
                data=body,
                auth=TokenAuth(settings),
                timeout=(settings.connect_timeout, settings.read_timeout),
                allow_redirects=False,
                verify=settings.ca_bundle or True,
                stream=True,
            )
            self.rate_limit = RateLimit.from_headers(response.headers)
            self.clock.update(response.headers)
            content = receive(response, call)
            return clean(
                call, read_reply(call, response.status_code, response.headers, content, settings.mask), settings.mask
            )

        failure: SevenBridgesError
        try:
            return within(settings.total_timeout, exchange)
        except RequestException as error:
            failure = no_response(call, settings.mask.parts(innermost_text(error)), sent=was_sent(error))
        except SevenBridgesError as error:
            failure = error
        # Not chained, since a library's error may show parts of the response.
        fail(call, failure, settings.mask)

    def wait_for_rate_limit(self) -> None:
        """Wait until the Platform allows requests again, if the last response showed that the limit is reached.

        `send` does this before idempotent calls. For others, the caller waits first and then decides what to submit.
        """
        if (seconds := seconds_until_allowed(self.rate_limit, time.time())) > 0:
            self.log.info("The rate limit is exhausted; resuming in %s.", in_words(seconds))
            time.sleep(seconds + random.uniform(0.1, 1))

    def start_export(
        self,
        file: str,
        volume: str,
        location: str,
        *,
        overwrite: bool = False,
        copy_only: bool = False,
        properties: Json | None = None,
    ) -> ExportJob:
        """Start one export job.

        .. note:: An export moves the file unless ``copy_only`` is set: the project's file becomes an alias of the
            new object. A move cannot be undone, repeated or canceled.

        :param file: id of the file, 24 hexadecimal digits.
        :param volume: id of the destination volume, ``owner/name``.
        :param location: the object's key on the volume; the volume's prefix is prepended.
        :param overwrite: first deletes an object at the destination.
        :param copy_only: copies; the Platform keeps the file.
        :param properties: ``sse_algorithm``, ``sse_aws_kms_key_id``, ``aws_canned_acl``, ``aws_storage_class``.
        :raises SevenBridgesReplyLost: if the export may have been accepted; check before you submit again.
        """
        export = ExportRequest.checked(
            file=file,
            volume=volume,
            location=location,
            overwrite=overwrite,
            copy_only=copy_only,
            properties=properties,
        )
        return self.send(calls.start_export(export, copy_only=export.copy_only))

    def start_exports(
        self, exports: Sequence[ExportRequest | Mapping[str, Any]], *, copy_only: bool = False
    ) -> list[ExportJob | SevenBridgesApiError]:
        """Start any number of export jobs, with one request per hundred.

        .. note:: A rejected export is an error in the returned list; it raises nothing. `raise_for_errors` raises.

        :param exports: the exports, each an `ExportRequest` or a mapping of its fields.
        :param copy_only: for all of them; if false, an export with its own ``copy_only`` is an error.
        :returns: for each export, in order, its job or the Platform's error. If a request after the first is rejected
            or cannot be sent, its exports and those after it have that error.
        :raises SevenBridgesReplyLost: if a response was lost; ``answered`` holds the results before it.
        :raises SevenBridgesInputError: naming every wrong field of every export; nothing is sent.
        """
        requests_ = _checked(exports, copy_only)
        results: list[ExportJob | SevenBridgesApiError] = []
        for start in range(0, len(requests_), calls.BULK_LIMIT):
            chunk = requests_[start : start + calls.BULK_LIMIT]
            try:
                chunk_results = self.send(calls.start_exports(chunk, copy_only=copy_only))
            except SevenBridgesReplyLost as lost:
                raise SevenBridgesReplyLost(lost.message, tuple(results)) from lost
            except (SevenBridgesApiError, SevenBridgesConnectionError) as error:
                if not results:
                    raise
                api_error = (
                    error if isinstance(error, SevenBridgesApiError) else SevenBridgesApiError(0, message=str(error))
                )
                rest = calls.start_exports(requests_[start:], copy_only=copy_only).objects
                return results + [_named(api_error, name) for name in rest]
            results += chunk_results
        return results

    @staticmethod
    def raise_for_errors(results: Iterable[ExportJob | SevenBridgesError]) -> list[ExportJob]:
        """Return the jobs in a result of `start_exports` or `get_exports`, if all are jobs that have not failed.

        :param results: the job or the error of each export.
        :raises SevenBridgesBatchFailed: if there is an error or a failed job. It names each of them and the jobs that
            the Platform has accepted; ``results`` has all of them.
        """
        return raise_for_errors(results)

    def get_export(self, export_id: str) -> ExportJob:
        """Return an export job; a failed one has an ``error``."""
        return self.send(calls.get_export(export_id))

    def get_exports(self, export_ids: Sequence[str], *, retry: bool = True) -> list[ExportJob | SevenBridgesApiError]:
        """Return the job or the error for each id, in order, with one request per hundred.

        An id that makes its request fail, or is missing in the response, costs a few more requests; only that id gets
        an error.

        :param retry: as for `send`.
        """
        return self.fetch_each(read_ids(export_ids, "export_ids"), calls.get_exports, retry=retry)

    def wait_for_export(
        self, export_id: str, *, poll_interval: float = POLL_INTERVAL, timeout: float | None = DEFAULT_TIMEOUT
    ) -> ExportJob:
        """Wait in this process until an export is terminal, and return its job (see `wait_for_exports`).

        :raises SevenBridgesExportFailed: if it failed.
        :raises SevenBridgesExportTimeout: if it is not terminal in time.
        :raises SevenBridgesInDoubt: if the Platform rejects the polls; the export may still be running.
        """
        [job] = self._wait_for([export_id], poll_interval, timeout)
        if job.failed:
            raise EXPORT.failure(job)
        return job

    def wait_for_exports(
        self,
        export_ids: Sequence[str],
        *,
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> list[ExportJob]:
        """Wait in this process until exports are terminal, and return their jobs, in order.

        One request polls a hundred of them: first after five seconds, then every ``poll_interval``, and less often
        when the rate limit is low. Rate limit, maintenance and lost connections do not end the wait.

        .. note:: In a task, this holds a worker slot. `SevenBridgesExportSensor` waits without one.

        :param export_ids: any number of ids.
        :param poll_interval: seconds between two polls of an export.
        :param timeout: seconds to wait at most; None for no limit.
        :raises SevenBridgesBatchFailed: if exports failed, when all are terminal. It names each of them; ``results``
            has all jobs, in order.
        :raises SevenBridgesExportTimeout: if exports are not terminal in time. It names them, and ``export_ids`` has
            their ids. They continue.
        :raises SevenBridgesInDoubt: if the Platform rejects the polls of an id, when all others are terminal. Its
            export may still be running.
        """
        return raise_for_errors(self._wait_for(export_ids, poll_interval, timeout))

    def _wait_for(self, export_ids: Sequence[str], poll_interval: float, timeout: float | None) -> list[ExportJob]:
        check_seconds(poll_interval=poll_interval, timeout=timeout)
        ids = read_ids(export_ids, "export_ids")
        # First, since polls continue after an error of the connection.
        _ = self.settings
        deadline = None if timeout is None else time.monotonic() + timeout
        watch = Watch(EXPORT, list(dict.fromkeys(ids)), deadline)
        status = wait(self, watch, poll_interval)["status"]
        if status == "timeout":
            states = [
                f"{each} ({watch.jobs[each].state if each in watch.jobs else 'not polled'})" for each in watch.open
            ]
            raise SevenBridgesExportTimeout(
                f"{len(states):,} of {len(watch.ids):,} exports are not terminal at the end of the time to wait for "
                f"them (timeout={timeout} seconds): {_some(states)}.",
                watch.open,
                remedy="They continue: the Platform cannot cancel them. Wait for the same ids again.",
            )
        if status == "rejected":
            error = next(iter(watch.rejected.values()))
            raise SevenBridgesInDoubt(
                f"{len(watch.rejected):,} of {len(watch.ids):,} exports cannot be polled; they may still be running: "
                f"{_some(list(watch.rejected))}. The first error: {error}",
                remedy="Check that the connection's token belongs to the user who submitted them.",
            ) from error
        return [watch.jobs[export_id] for export_id in ids]

    def list_exports(
        self, volume: str | None = None, states: Sequence[str] = (), *, limit: int | None = None
    ) -> list[ExportJob]:
        """Return the token user's own jobs, in the Platform's order.

        :param volume: only those to this volume.
        :param states: only those in one of these states.
        :param limit: the maximum number of jobs; None for all, with one request per hundred.
        """
        wanted = read_ids(states, "states")
        return list(islice(self.iterate(lambda offset: calls.list_exports(volume, wanted, offset=offset)), limit))

    def get_file(self, file_id: str) -> File:
        """Return a file's details."""
        return self.send(calls.get_file(file_id))

    def get_files(self, file_ids: Sequence[str], *, retry: bool = True) -> list[File | SevenBridgesApiError]:
        """Return the file or the error for each id, in order, with one request per hundred.

        As for `get_exports`, an error concerns only its own id.

        :param retry: as for `send`.
        """
        return self.fetch_each(read_ids(file_ids, "file_ids"), calls.get_files, retry=retry)

    def add_tag(self, file_ids: Sequence[str], tag: str) -> list[File | SevenBridgesApiError]:
        """Add a tag to files, and return the file or the error for each id, in order.

        The API replaces all tags of a file, so this gets the files first: two requests per hundred. A tag that somebody
        else sets or removes between these two is lost. Files that have the tag are not changed.
        """
        results = dict(zip(file_ids, self.get_files(file_ids), strict=True))
        tags = {
            file_id: [*file.tags, tag]
            for file_id, file in results.items()
            if isinstance(file, File) and tag not in file.tags
        }
        edited = self.fetch_each(list(tags), lambda ids: calls.set_tags({file_id: tags[file_id] for file_id in ids}))
        results.update(zip(tags, edited, strict=True))
        return [results[file_id] for file_id in file_ids]

    def fetch_each(
        self,
        ids: Sequence[str],
        call_for: Callable[[Sequence[str]], Call[list[T | SevenBridgesApiError]]],
        *,
        retry: bool = True,
    ) -> list[T | SevenBridgesApiError]:
        """Return the resource or the error for each id, in order, with one request per hundred.

        :param call_for: the bulk call for at most a hundred ids.
        :param retry: as for `send`.
        """
        results: dict[str, Any] = {}
        for chunk in _chunks(list(dict.fromkeys(ids))):
            lookup: Lookup[T] = Lookup(chunk, {}, bounded=False)
            while request_ids := lookup.next():
                call, is_alone = call_for(request_ids), len(request_ids) == 1
                try:
                    results.update(lookup.take(self._fetch(call, is_alone=is_alone, retry=retry)))
                except SevenBridgesError as error:
                    results.update(lookup.take(error))
            if failure := lookup.ended_by or (None if lookup.has_answers else lookup.failure):
                raise failure
        return [results[resource_id] for resource_id in ids]

    def _fetch(
        self, call: Call[list[T | SevenBridgesApiError]], *, is_alone: bool, retry: bool
    ) -> list[T | SevenBridgesApiError]:
        if not is_alone:
            return self.send(call, retry=retry)

        def read_alone(body: Any, headers: Mapping[str, str]) -> list[T | SevenBridgesApiError]:
            [item] = call.read(body, headers)
            if isinstance(item, SevenBridgesUnreadableItem):
                raise ValueError(item.message)
            return [item]

        # An unreadable item is retried like an unreadable response.
        return self.send(replace(call, read=read_alone), retry=retry)

    def list_files(
        self,
        *,
        project: str | None = None,
        parent: str | None = None,
        names: Sequence[str] = (),
        tags: Sequence[str] = (),
        metadata: Mapping[str, Sequence[str]] | None = None,
        origin_task: str | None = None,
        limit: int | None = None,
    ) -> list[File]:
        """Return the files and folders on one level of a project or folder (see `api.calls.list_files`)."""
        page_at = partial(
            _files_at,
            project=project,
            parent=parent,
            names=read_ids(names, "names"),
            tags=read_ids(tags, "tags"),
            metadata={key: read_ids(values, f"metadata[{key}]") for key, values in (metadata or {}).items()},
            origin_task=origin_task,
        )
        return list(islice(self.iterate(page_at), limit))

    def get_volume(self, volume: str, *, retry: bool = True) -> Volume:
        """Return a volume's details; fetched once per hook.

        :param retry: as for `send`.
        """
        if volume not in self._volumes:
            self._volumes[volume] = self.send(calls.get_volume(volume), retry=retry)
        return self._volumes[volume]

    @property
    def known_volumes(self) -> Mapping[str, Volume]:
        """By id, the volumes that this hook has fetched."""
        return self._volumes

    def list_volumes(self, *, limit: int | None = None) -> list[Volume]:
        """Return the volumes that the token's user can see."""
        return list(islice(self.iterate(lambda offset: calls.list_volumes(offset=offset)), limit))

    def get_volume_object(self, volume: str, location: str, *, retry: bool = True) -> VolumeObject:
        """Return size and etag of an object on a volume.

        :param retry: as for `send`.
        :raises SevenBridgesNotFoundError: if there is none.
        """
        return self.send(calls.get_volume_object(volume, location), retry=retry)

    def find_volume_object(self, volume: str, location: str, *, retry: bool = True) -> VolumeObject | None:
        """Return size and etag of an object on a volume, None if the Platform reports that there is none.

        :param retry: as for `send`.
        :raises SevenBridgesApiError: if the token lacks the permission, and for a 404 about anything but the object.
        """
        try:
            return self.get_volume_object(volume, location, retry=retry)
        except SevenBridgesNotFoundError as error:
            if error.code in NO_SUCH_OBJECT:
                return None
            raise

    def list_volume_objects(self, volume: str, prefix: str = "") -> Iterator[VolumeObject]:
        """Yield the objects on one level of a volume; a page of a hundred is fetched only when it is needed.

        :param prefix: what their locations begin with: for a folder, its path with a slash at the end. Objects in
            folders below are not listed.
        """
        return (item for page in self.volume_pages(volume, prefix) for item in page.items)

    def volume_pages(self, volume: str, prefix: str = "") -> Iterator[Page[VolumeObject]]:
        """Yield the pages of `list_volume_objects`.

        :raises SevenBridgesApiError: if the next page is at another address, or there are too many pages.
        """
        links: set[str] = set()
        call = calls.list_volume_objects(volume, prefix)
        for _ in range(MAX_VOLUME_PAGES):
            page = self.send(call)
            yield page
            if not has_next(page, self.settings.endpoint):
                return
            if page.next in links:
                raise _incomplete(call, "its pages repeat")
            links.add(page.next or "")
            call = calls.list_volume_objects(volume, prefix, link=page.next)
        raise _incomplete(call, f"it has more than {MAX_VOLUME_PAGES:,} pages; use a prefix")

    def get_user(self) -> User:
        """Return the user whom the token belongs to."""
        return self.send(calls.get_user())

    def get_rate_limit(self) -> RateLimit:
        """Return what is left of the rate limit; this request does not count against it."""
        return self.send(calls.get_rate_limit())

    def test_connection(self) -> tuple[bool, str]:
        """Fetch the token's user, without retries: for the button "Test" of the connection form."""
        notes: list[str] = []
        try:
            if ignored := self.settings.ignored_environment:
                notes = [f"The host takes precedence over the environment {ignored!r}; leave one of them empty."]
            user = self.send(calls.get_user(), retry=False)
        except Exception as error:
            return False, " ".join([str(error) or type(error).__name__, *notes])
        return True, ". ".join([f"Connected to {self.settings.endpoint} as {user.username}", *notes])

    def iterate(self, page_at: Callable[[int], Call[Page[Listed]]]) -> Iterator[Listed]:
        """Yield the items of a list, each once; a page is fetched only when it is needed.

        Items move between pages when others are added or removed. If their number changes, or some are missing, the
        list is read again, at most three times.

        :param page_at: returns the call for the page at an offset.
        :raises SevenBridgesApiError: if the list is still incomplete then, or has too many pages.
        """
        seen: set[str] = set()
        for _ in range(MAX_READS):
            ids: set[str] = set()
            totals: set[int | None] = set()
            stuck = False
            for page in self._pages(page_at):
                totals.add(page.total)
                fresh = {item.id: item for item in page.items if item.id not in ids}
                ids |= fresh.keys()
                yield from (item for item in fresh.values() if item.id not in seen)
                # A server that ignores the offset would return the same page forever.
                stuck = bool(page.items and not fresh and page.next)
                if stuck:
                    break
            if not stuck and totals <= {None, len(ids)}:
                return
            seen |= ids
        if stuck or len(seen) < (page.total or 0):
            total = "more" if page.total is None else page.total
            raise _incomplete(page_at(0), f"it should have {total} items, but only {len(seen)} were listed")

    def _pages(self, page_at: Callable[[int], Call[Page[Listed]]]) -> Iterator[Page[Listed]]:
        offset = 0
        for _ in range(MAX_PAGES):
            page = self.send(page_at(offset))
            yield page
            offset += len(page.items)
            if not page.items or not has_next(page, self.settings.endpoint):
                return
        raise _incomplete(page_at(0), f"it has more than {MAX_PAGES} pages; use filters")

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels and placeholders of the connection form, for Airflow before 3.2."""
        from airflow_sb_provider.get_provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the provider's fields of the connection form, for Airflow before 3.2."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import BooleanField, StringField
        from wtforms.validators import Optional, any_of

        from airflow_sb_provider.get_provider_info import CONN_FIELDS

        widgets: dict[str, Any] = {}
        for name, spec in CONN_FIELDS.items():
            schema = spec["schema"]
            text = {"label": spec["label"], "description": spec["description"]}
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(**text)
                continue
            # Airflow accepts no other field types; 3.0 and 3.1 turn these validators into a list to choose from.
            rules = [Optional(), any_of(schema["enum"])] if "enum" in schema else []
            widgets[name] = StringField(**text, validators=rules, widget=BS3TextFieldWidget())
        return widgets


def __getattr__(name: str) -> Any:
    # Only a triggerer needs aiohttp, which takes longer to import than all the rest; DAG files are parsed often.
    if name == "SevenBridgesAsyncHook":
        from airflow_sb_provider.hooks.sevenbridges_async import SevenBridgesAsyncHook

        return SevenBridgesAsyncHook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _checked(exports: Sequence[ExportRequest | Mapping[str, Any]], copy_only: bool) -> list[ExportRequest]:
    checked: list[ExportRequest] = []
    problems: list[str] = []
    if isinstance(exports, str | Mapping | ExportRequest):
        raise SevenBridgesInputError(f"exports: {type(exports).__name__} is not a list; use one, also for one export.")
    for number, export in enumerate(exports):
        try:
            fields = export if isinstance(export, Mapping) else asdict(export)
            checked.append(ExportRequest.checked(**fields))
            if checked[-1].copy_only and not copy_only:
                problems.append(
                    f"exports[{number}].copy_only: True, but the call's is False; submit copies and moves separately."
                )
        except SevenBridgesInputError as error:
            problems += [f"exports[{number}].{problem}" for problem in error.problems]
        except TypeError as error:
            problems.append(
                f"exports[{number}]: {error}; use file, volume, location, overwrite, copy_only, properties."
            )
    if problems:
        raise SevenBridgesInputError(problems)
    return checked


def has_next(page: Page[Any], endpoint: str) -> bool:
    """Whether a list has more pages.

    :raises SevenBridgesApiError: if the next page is at another origin, which must not get the token.
    """
    if page.next and origin(page.next) != origin(endpoint):
        raise SevenBridgesApiError(
            0,
            message=f"The next page of the list is at another address than {endpoint}, so it was not fetched.",
        )
    return page.next is not None


def _named(error: SevenBridgesApiError, name: str) -> SevenBridgesApiError:
    """Return the same error for another object."""
    named = copy(error)
    named.about = readable(name)
    return named


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - IDS_SHOWN:,} more" if len(texts) > IDS_SHOWN else ""
    return ", ".join(texts[:IDS_SHOWN]) + more


def _files_at(offset: int, **where: Any) -> Call[Page[File]]:
    return calls.list_files(**where, offset=offset)


def _incomplete(call: Call[Page[Any]], problem: str) -> SevenBridgesApiError:
    error = SevenBridgesApiError(0, message=f"The Platform's list is incomplete: {problem}.")
    error.about = call.about
    return error


def _chunks(ids: Sequence[str], size: int = calls.BULK_LIMIT) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
