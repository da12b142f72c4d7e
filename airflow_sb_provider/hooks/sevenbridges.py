"""The hooks: one ``send(call)`` on requests, here, and the same on aiohttp, in `hooks.asynchronous`."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying

from airflow_sb_provider._compat import BaseHook
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.environments import origin
from airflow_sb_provider.api.error_codes import NO_SUCH_OBJECT
from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.api.models import RateLimit
from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesReplyLost,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.exports.pacing import seconds_until_allowed
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.retrying import retry_rules, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import requests

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import (
        ExportJob,
        File,
        Json,
        Page,
        User,
        Volume,
        VolumeObject,
    )
    from airflow_sb_provider.hooks.asynchronous import SevenBridgesAsyncHook

__all__ = ["SevenBridgesAsyncHook", "SevenBridgesHook", "has_next"]

T = TypeVar("T")


class SevenBridgesHook(BaseHook):
    """The Seven Bridges Platform, for workers.

    Every method raises `SevenBridgesApiError` for an error that the Platform tells, `SevenBridgesConnectionError` if it
    cannot be reached, `SevenBridgesInputError` if the connection or an argument cannot be used. Requests are
    repeated as `hooks.retrying` says; a POST that starts exports never is, once it may have been accepted.
    ``rate_limit`` is what the last answer told of it.

    :param sevenbridges_conn_id: the Airflow connection, of type ``sevenbridges``.
    """

    conn_name_attr = "sevenbridges_conn_id"
    default_conn_name = "sevenbridges_default"
    conn_type = "sevenbridges"
    hook_name = "Seven Bridges"

    def __init__(self, sevenbridges_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self._volumes: dict[str, Volume] = {}
        self.rate_limit: RateLimit | None = None

    @cached_property
    def settings(self) -> ConnectionSettings:
        """What the connection says, checked."""
        return ConnectionSettings.from_connection(self.get_connection(self.sevenbridges_conn_id))

    def reconnect(self) -> None:
        """Look up the connection again: its token may have been replaced."""
        self.__dict__.pop("settings", None)
        self.__dict__.pop("_session", None)

    def get_conn(self) -> requests.Session:
        """Return the session that all requests go through. It holds no token."""
        return self._session

    @cached_property
    def _session(self) -> requests.Session:
        from airflow_sb_provider.hooks.transport import Session

        session = Session()
        session.headers.update(self.settings.headers)
        return session

    def send(self, call: Call[T], *, again: bool = True) -> T:
        """Send a call, again where that is safe, and return what its answer says.

        :param again: false to send it once only, for callers who ask again by themselves.
        :raises SevenBridgesReplyLost: if a call that must not be repeated may have been accepted.
        """
        if call.repeatable:
            self.wait_for_rate_limit()
        if not again:
            return self._send_once(call)
        answer: T = Retrying(**retry_rules(self.log))(self._send_once, call)
        return answer

    def _send_once(self, call: Call[T]) -> T:
        # Needed in a worker only, and takes longer to import than all the rest.
        from airflow_sb_provider.hooks.transport import RequestException, TokenAuth, deadline, receive, was_sent

        settings = self.settings
        try:
            with deadline(settings.total_timeout):
                response = self._session.request(
                    call.method,
                    call.url(settings.endpoint),
                    json=call.body,
                    auth=TokenAuth(settings),
                    timeout=(settings.connect_timeout, settings.read_timeout),
                    allow_redirects=False,
                    verify=settings.ca_bundle or True,
                    stream=True,
                )
                self.rate_limit = RateLimit.from_headers(response.headers)
                body = receive(response, call)
            return read_reply(call, response.status_code, response.headers, settings.without_token(body))
        except RequestException as error:
            # Not chained to, since it may show pieces of the answer.
            lost: SevenBridgesError = SevenBridgesConnectionError(
                f"No answer from the Platform to {call.method} {call.path}: {settings.told(str(error))}",
                sent=was_sent(error),
            )
        except SevenBridgesError as error:
            lost = error
        settled = settle(call, lost)
        raise settled from (None if settled is lost else lost)

    def wait_for_rate_limit(self) -> None:
        """Wait until the Platform allows requests again, if the last answer told that it will refuse the next.

        `send` does so by itself before what may be repeated; what may not is decided on after the wait, by its caller.
        """
        if (seconds := seconds_until_allowed(self.rate_limit, time.time())) > 0:
            self.log.info("The rate limit is used up; going on in %.0f s.", seconds)
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

        .. note:: An export moves the file unless ``copy_only`` is set: its project file becomes an alias of the
            new object. It cannot be undone, repeated or cancelled.

        :param file: id of the file, 24 hexadecimal digits.
        :param volume: id of the destination volume, ``owner/name``.
        :param location: the object's key on the volume; the volume's prefix goes before it.
        :param overwrite: deletes an object that is at the destination first.
        :param copy_only: copies, so that the Platform keeps the file.
        :param properties: ``sse_algorithm``, ``sse_aws_kms_key_id``, ``aws_canned_acl``, ``aws_storage_class``.
        :raises SevenBridgesReplyLost: if the export may have been accepted; look before asking again.
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
        """Start any number of export jobs, with one request for each hundred.

        :param exports: what to export: each an `ExportRequest` or a mapping of its fields.
        :param copy_only: for all of them. An export that wants to be copied is never moved by a false one.
        :returns: for each export, in order, its job or the Platform's refusal. Where a request is refused as a
            whole, or cannot be sent, after others were answered, its exports and those after it have that error.
        :raises SevenBridgesReplyLost: if an answer was lost; ``answered`` holds the results before it.
        :raises SevenBridgesInputError: naming every wrong field of every export; nothing is sent.
        """
        requests_ = _checked(exports, copy_only)
        results: list[ExportJob | SevenBridgesApiError] = []
        for start in range(0, len(requests_), calls.BULK_LIMIT):
            chunk = requests_[start : start + calls.BULK_LIMIT]
            try:
                answers = self.send(calls.start_exports(chunk, copy_only=copy_only))
            except SevenBridgesReplyLost as lost:
                raise SevenBridgesReplyLost(lost.message, tuple(results)) from lost
            except (SevenBridgesApiError, SevenBridgesConnectionError) as error:
                if not results:
                    raise
                told = error if isinstance(error, SevenBridgesApiError) else SevenBridgesApiError(0, message=str(error))
                return results + [told] * (len(requests_) - start)
            results += answers
        return results

    def get_export(self, export_id: str) -> ExportJob:
        """Return an export job; one that failed has its ``error``."""
        return self.send(calls.get_export(export_id))

    def get_exports(self, export_ids: Sequence[str]) -> list[ExportJob | SevenBridgesApiError]:
        """Return for each id, in order, its job or the error for it; one request for each hundred.

        An id that spoils its request, or is left out of the answer, costs a few requests more, and gets an error alone.
        """
        return self._look_up(export_ids, calls.get_exports)

    def list_exports(
        self, volume: str | None = None, states: Sequence[str] = (), *, limit: int | None = None
    ) -> list[ExportJob]:
        """Return the token user's own jobs, in the Platform's order.

        :param volume: only those to this volume.
        :param states: only those in one of these states.
        :param limit: at most so many; None for all, which is a request for each hundred.
        """
        return self._all(lambda offset: calls.list_exports(volume, states, offset=offset), limit)

    def get_file(self, file_id: str) -> File:
        """Return a file's details."""
        return self.send(calls.get_file(file_id))

    def get_files(self, file_ids: Sequence[str]) -> list[File | SevenBridgesApiError]:
        """Return for each id, in order, its file or the error for it; one request for each hundred.

        As for `get_exports`, one id's trouble is its own.
        """
        return self._look_up(file_ids, calls.get_files)

    def _look_up(
        self, ids: Sequence[str], call_for: Callable[[Sequence[str]], Call[list[T | SevenBridgesApiError]]]
    ) -> list[T | SevenBridgesApiError]:
        known: dict[str, Any] = {}
        for chunk in _hundreds(list(dict.fromkeys(ids))):
            lookup: Lookup[T] = Lookup(chunk, {}, bounded=False)
            while asked := lookup.next():
                try:
                    known.update(lookup.take(self._ask_for(call_for(asked), is_alone=len(asked) == 1)))
                except SevenBridgesError as error:
                    known.update(lookup.take(error))
            if failure := lookup.ended_by or (None if lookup.has_answers else lookup.failure):
                raise failure
        return [known[each] for each in ids]

    def _ask_for(self, call: Call[list[T | SevenBridgesApiError]], *, is_alone: bool) -> list[T | SevenBridgesApiError]:
        if not is_alone:
            return self.send(call)

        def read_alone(body: Any, headers: Mapping[str, str]) -> list[T | SevenBridgesApiError]:
            [item] = call.read(body, headers)
            if isinstance(item, SevenBridgesUnreadableItem):
                raise ValueError(item.message)
            return [item]

        # An item that cannot be read is requested again as an answer is that cannot be read.
        return self.send(replace(call, read=read_alone))

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
        return self._all(
            lambda offset: calls.list_files(
                project=project,
                parent=parent,
                names=names,
                tags=tags,
                metadata=metadata,
                origin_task=origin_task,
                offset=offset,
            ),
            limit,
        )

    def get_volume(self, volume: str, *, again: bool = True) -> Volume:
        """Return a volume's details; asked once for each hook.

        :param again: as for `send`.
        """
        if volume not in self._volumes:
            self._volumes[volume] = self.send(calls.get_volume(volume), again=again)
        return self._volumes[volume]

    @property
    def known_volumes(self) -> Mapping[str, Volume]:
        """By id, the volumes that this hook has asked for."""
        return self._volumes

    def list_volumes(self, *, limit: int | None = None) -> list[Volume]:
        """Return the volumes that the token's user can see."""
        return self._all(lambda offset: calls.list_volumes(offset=offset), limit)

    def get_volume_object(self, volume: str, location: str, *, again: bool = True) -> VolumeObject:
        """Return size and etag of an object on a volume.

        :param again: as for `send`.
        :raises SevenBridgesNotFoundError: if there is none.
        """
        return self.send(calls.get_volume_object(volume, location), again=again)

    def find_volume_object(self, volume: str, location: str, *, again: bool = True) -> VolumeObject | None:
        """Return size and etag of an object on a volume, None if the Platform says that none is there.

        :param again: as for `send`.
        :raises SevenBridgesApiError: if the token may not look, also for a 404 that tells of something else.
        """
        try:
            return self.get_volume_object(volume, location, again=again)
        except SevenBridgesNotFoundError as error:
            if error.code in NO_SUCH_OBJECT:
                return None
            raise

    def get_user(self) -> User:
        """Return the user whom the token belongs to."""
        return self.send(calls.get_user())

    def get_rate_limit(self) -> RateLimit:
        """Return what is left of the rate limit; this request does not count against it."""
        return self.send(calls.get_rate_limit())

    def test_connection(self) -> tuple[bool, str]:
        """Ask once who the token belongs to: for the button "Test" of the connection form."""
        try:
            user = self.send(calls.get_user(), again=False)
        except Exception as error:
            return False, str(error) or type(error).__name__
        return True, f"Connected to {self.settings.endpoint} as {user.username}"

    def _all(self, page_at: Any, limit: int | None) -> list[Any]:
        items: list[Any] = []
        while limit is None or len(items) < limit:
            page: Page[Any] = self.send(page_at(len(items)))
            items += page.items
            if not page.items or not has_next(page, self.settings.endpoint):
                break
        return items[:limit]

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Labels and placeholders of the connection form, for Airflow before 3.2."""
        from airflow_sb_provider.get_provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The connection form's own fields, for Airflow before 3.2."""
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
            # Airflow refuses a hook with any other field; of these rules 3.0 and 3.1 make a list to choose from.
            rules = [Optional(), any_of(schema["enum"])] if "enum" in schema else []
            widgets[name] = StringField(**text, validators=rules, widget=BS3TextFieldWidget())
        return widgets


def __getattr__(name: str) -> Any:
    # It needs aiohttp, which takes longer to import than all the rest: only a triggerer does.
    if name == "SevenBridgesAsyncHook":
        from airflow_sb_provider.hooks.asynchronous import SevenBridgesAsyncHook

        return SevenBridgesAsyncHook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _checked(exports: Sequence[ExportRequest | Mapping[str, Any]], copy_only: bool) -> list[ExportRequest]:
    checked: list[ExportRequest] = []
    problems: list[str] = []
    for number, export in enumerate(exports):
        fields = export if isinstance(export, Mapping) else vars(export)
        try:
            checked.append(ExportRequest.checked(**fields))
            if checked[-1].copy_only and not copy_only:
                problems.append(
                    f"exports[{number}].copy_only: True, but the call's is False; start copies and moves apart."
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
    """Whether a list goes on after a page.

    :raises SevenBridgesApiError: if the list continues at another origin, to which the token must not go.
    """
    if page.next and origin(page.next) != origin(endpoint):
        raise SevenBridgesApiError(
            0,
            message=f"The Platform's list continues at another address than {endpoint}; it is not followed.",
        )
    return page.next is not None


def _hundreds(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + calls.BULK_LIMIT] for start in range(0, len(ids), calls.BULK_LIMIT))
