"""Every API call that the provider needs: method, path, query, body, and how to read the response.

Paths are below the endpoint (``https://.../v2``). Field names and codes: the Platform's API v2 reference,
https://docs.sevenbridges.com/reference
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from airflow_sb_provider.api.models import (
    ExportJob,
    File,
    ImportJob,
    Page,
    RateLimit,
    User,
    Volume,
    VolumeObject,
    error_from_json,
)
from airflow_sb_provider.api.task import App, Project, Task
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.values import Json, parse_integer
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesInputError,
    SevenBridgesUnreadableItem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
Identified = TypeVar("Identified", ExportJob, File, Task)

BULK_LIMIT = 100
PAGE_LIMIT = 100
# A page has at most the requested number of items; a server that ignores the limit may send some more.
_LONGEST_PAGE = 10 * PAGE_LIMIT
# Of a link to the next page: more parameters are nonsense, and gateways reject longer URLs.
_MOST_PARAMETERS = 20
_LONGEST_LINK = 8000


class Export(Protocol):
    """An export to submit: a file, its destination, and options."""

    @property
    def file(self) -> str:
        """Id of the file."""

    @property
    def volume(self) -> str:
        """Id of the destination volume."""

    @property
    def location(self) -> str:
        """The object's key on the volume."""

    @property
    def overwrite(self) -> bool:
        """Whether an object at the destination is deleted first."""

    @property
    def properties(self) -> Json | None:
        """Service-specific properties."""


@dataclass(frozen=True)
class Bounds:
    """How much one response may hold: bytes, decompressed, and JSON values, including the keys of objects."""

    size: int
    values: int


# A triggerer reads polls on its event loop, where reading one must take less than 100 ms.
POLL = Bounds(2**20, 50_000)
# Of a task, without its inputs and outputs.
_POLLED = "id,name,status,app,project,description,created_time,start_time,end_time,batch,execution_status,price,errors"
# Enough for a hundred files, each with the maximum of 1000 metadata pairs, unless most pairs are very long.
PAGE = Bounds(16 * 2**20, 1_000_000)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and how to read its response.

    ``read`` takes the decoded JSON body and the headers; it raises ValueError if the body is not what the API
    documents. ``idempotent`` is false if a second request has a second effect. ``objects`` names the objects of the
    request, in order, for its errors, and ``together`` all of them; ``bounds`` are those of its response. ``send_by``
    is the latest time to send its body (`time.monotonic`); after that, a retry may have sent the same request.
    """

    method: str
    path: str
    read: Callable[[Any, Mapping[str, str]], T]
    query: tuple[tuple[str, str], ...] = ()
    body: Json | None = None
    idempotent: bool = field(default=True, kw_only=True)
    objects: tuple[str, ...] = field(default=(), kw_only=True)
    together: str = field(default="", kw_only=True)
    bounds: Bounds = field(default=PAGE, kw_only=True)
    send_by: float = field(default=math.inf, kw_only=True)

    @property
    def about(self) -> str:
        """The name of the request's object, empty if it has none."""
        if len(self.objects) > 1:
            return self.together or f"{self.objects[0]} and {len(self.objects) - 1} more"
        return "".join(self.objects)

    def url(self, endpoint: str) -> str:
        """Return the request's URL, every part of it quoted.

        :raises SevenBridgesInputError: for text that a URL cannot contain.
        """
        try:
            query = urlencode(self.query)
        except UnicodeEncodeError:
            raise SevenBridgesInputError(f"{self.path}: a value in {self.query!r} is not Unicode text.") from None
        return f"{endpoint}/{self.path}" + (f"?{query}" if query else "")


def start_export(export: Export, *, copy_only: bool) -> Call[ExportJob]:
    """`POST /storage/exports`, "Start an export job": ``overwrite`` in the body, ``copy_only`` in the query.

    A response with another file's job is an error.
    """

    def read(body: Any, headers: Mapping[str, str]) -> ExportJob:
        return _job_of(export, ExportJob.from_json(_mapping(body)))

    return Call(
        "POST",
        "storage/exports",
        read,
        _copy_only(copy_only),
        _export_body(export),
        idempotent=False,
        objects=(_export_name(export),),
    )


def start_exports(exports: Sequence[Export], *, copy_only: bool) -> Call[list[ExportJob | SevenBridgesApiError]]:
    """`POST /bulk/storage/exports/create` for at most 100 exports; the response has one item for each, in order.

    A response with another number of items, or with another file's job in any position, is an error.
    """

    def read(body: Any, headers: Mapping[str, str]) -> list[ExportJob | SevenBridgesApiError]:
        results = _bulk_items(body, len(exports), ExportJob.from_json)
        for result, export in zip(results, exports, strict=True):
            if isinstance(result, ExportJob):
                _job_of(export, result)
        return results

    items = {"items": [_export_body(export) for export in exports]}
    return Call(
        "POST",
        "bulk/storage/exports/create",
        read,
        _copy_only(copy_only),
        items,
        idempotent=False,
        objects=tuple(map(_export_name, exports)),
    )


def get_export(export_id: str) -> Call[ExportJob]:
    """`GET /storage/exports/{export_id}`; a failed job is a normal response with state ``FAILED``."""
    return Call(
        "GET", f"storage/exports/{_segment(export_id)}", _one(ExportJob.from_json), objects=(f"export {export_id}",)
    )


def get_exports(export_ids: Sequence[str]) -> Call[list[ExportJob | SevenBridgesApiError]]:
    """`POST /bulk/storage/exports/get` for at most 100 different ids; the response has one item for each.

    Items are matched by their ids (see `_each_of`).
    """
    read = _each_of(export_ids, ExportJob.from_json)
    objects = tuple(f"export {export_id}" for export_id in export_ids)
    body = {"export_ids": list(export_ids)}
    return Call("POST", "bulk/storage/exports/get", read, body=body, objects=objects, bounds=POLL)


def list_exports(
    volume: str | None = None,
    states: Sequence[str] = (),
    *,
    offset: int = 0,
    limit: int = PAGE_LIMIT,
) -> Call[Page[ExportJob]]:
    """`GET /storage/exports`: one page of the token user's own jobs, in no documented order."""
    name = f"list of exports to volume {volume}" if volume else "list of exports"
    query = _jobs_query(volume, states, offset, limit)
    return Call("GET", "storage/exports", _page(ExportJob.from_json), query, objects=(name,))


def list_imports(
    volume: str | None = None, states: Sequence[str] = (), *, offset: int = 0, limit: int = PAGE_LIMIT
) -> Call[Page[ImportJob]]:
    """`GET /storage/imports`: one page of the token user's own imports, in no documented order.

    :param volume: only those from this volume.
    """
    name = f"list of imports from volume {volume}" if volume else "list of imports"
    query = _jobs_query(volume, states, offset, limit)
    return Call("GET", "storage/imports", _page(ImportJob.from_json), query, objects=(name,))


def get_file(file_id: str) -> Call[File]:
    """`GET /files/{file_id}`."""
    return Call("GET", f"files/{_segment(file_id)}", _one(File.from_json), objects=(f"file {file_id}",))


def get_files(file_ids: Sequence[str]) -> Call[list[File | SevenBridgesApiError]]:
    """`POST /bulk/files/get` for at most 100 different ids; the response has one item for each.

    Items are matched by their ids (see `_each_of`).
    """
    read = _each_of(file_ids, File.from_json)
    objects = tuple(f"file {file_id}" for file_id in file_ids)
    return Call("POST", "bulk/files/get", read, body={"file_ids": list(file_ids)}, objects=objects)


def set_tags(tags: Mapping[str, Sequence[str]]) -> Call[list[File | SevenBridgesApiError]]:
    """`POST /bulk/files/edit` for at most 100 files: replace their tags; what else they have stays.

    :param tags: by file id.
    """
    items = [{"id": file_id, "tags": list(values)} for file_id, values in tags.items()]
    objects = tuple(f"file {file_id}" for file_id in tags)
    return Call("POST", "bulk/files/edit", _each_of(list(tags), File.from_json), body={"items": items}, objects=objects)


def list_files(
    *,
    project: str | None = None,
    parent: str | None = None,
    names: Sequence[str] = (),
    tags: Sequence[str] = (),
    metadata: Mapping[str, Sequence[str]] | None = None,
    origin_task: str | None = None,
    offset: int = 0,
    limit: int = PAGE_LIMIT,
) -> Call[Page[File]]:
    """`GET /files`: one page of the files and folders on one level of a project or folder.

    :param project: ``owner/name``, or ``parent``, a folder's id: one of the two.
    :param names: exact names, any of them.
    :param tags: any of them.
    :param metadata: for each field the values, any of them; all fields must match.
    """
    query = [("fields", "_all"), ("offset", str(offset)), ("limit", str(limit))]
    query += [(key, value) for key, value in (("project", project), ("parent", parent)) if value]
    query += [("name", name) for name in names] + [("tag", tag) for tag in tags]
    query += [(f"metadata.{key}", value) for key, values in (metadata or {}).items() for value in values]
    if origin_task:
        query.append(("origin.task", origin_task))
    name = f"list of files of folder {parent}" if parent else f"list of files of project {project}"
    return Call("GET", "files", _page(File.from_json), tuple(query), objects=(name,))


def get_volume(volume: str) -> Call[Volume]:
    """`GET /storage/volumes/{owner}/{name}`."""
    return Call(
        "GET",
        f"storage/volumes/{_volume_path(volume)}",
        _one(Volume.from_json),
        objects=(f"volume {volume}",),
        bounds=POLL,
    )


def list_volumes(*, offset: int = 0, limit: int = PAGE_LIMIT) -> Call[Page[Volume]]:
    """`GET /storage/volumes`: one page of the volumes that the token's user can see."""
    query = (("fields", "_all"), ("offset", str(offset)), ("limit", str(limit)))
    return Call("GET", "storage/volumes", _page(Volume.from_json), query, objects=("list of volumes",))


def get_volume_object(volume: str, location: str) -> Call[VolumeObject]:
    """`GET /storage/volumes/{owner}/{name}/object`: details of one object (404 if there is none)."""
    path = f"storage/volumes/{_volume_path(volume)}/object"
    name = f"object {location} on volume {volume}"
    return Call("GET", path, _one(VolumeObject.from_json), (("location", location),), objects=(name,))


def list_volume_objects(volume: str, prefix: str = "", *, link: str | None = None) -> Call[Page[VolumeObject]]:
    """`GET /storage/volumes/{owner}/{name}/list`: one page of the objects on one level of a volume; it has no total.

    :param prefix: what the locations begin with; for a folder, its path with a slash at the end.
    :param link: the link to this page, from the page before. Only its query is used, and the path is the volume's own.
    :raises SevenBridgesApiError: for a link that is none.
    """
    query = {"fields": "_all", "limit": str(PAGE_LIMIT), **({"prefix": prefix} if prefix else {})}
    name = f"list of objects on volume {volume}"
    if link:
        try:
            if len(link) > _LONGEST_LINK:
                raise ValueError("it is too long")
            query |= parse_qsl(urlsplit(link).query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError as problem:
            error = SevenBridgesApiError(0, message=f"The link to the next page cannot be used: {problem}.")
            error.about = name
            raise error from None
    path = f"storage/volumes/{_volume_path(volume)}/list"
    return Call("GET", path, _page(VolumeObject.from_json), tuple(query.items()), objects=(name,))


def create_task(body: Json) -> Call[Task]:
    """`POST /tasks`: create a draft, which costs nothing; the response has the ``errors`` of its validation.

    :param body: the API's fields, such as ``project``, ``app``, ``name`` and ``inputs``.
    """
    name = f"task {readable(str(body.get('name') or ''), 200)} of app {body.get('app')}"
    return Call("POST", "tasks", _one(Task.from_json), body=body, idempotent=False, objects=(name,))


def run_task(task_id: str) -> Call[Task]:
    """`POST /tasks/{task_id}/actions/run`: start a draft. A task that is no draft is rejected (7007, 7010)."""
    path = f"tasks/{_segment(task_id)}/actions/run"
    return Call("POST", path, _one(Task.from_json), objects=(f"start of task {task_id}",))


def describe_task(task_id: str, description: str) -> Call[Task]:
    """`PATCH /tasks/{task_id}`: change the description of a draft. A task that is no draft is rejected (7026)."""
    path = f"tasks/{_segment(task_id)}"
    return Call("PATCH", path, _one(Task.from_json), body={"description": description}, objects=(f"task {task_id}",))


def abort_task(task_id: str) -> Call[Task]:
    """`POST /tasks/{task_id}/actions/abort`: stop a task. A task that has ended is rejected (7008, 7011)."""
    path = f"tasks/{_segment(task_id)}/actions/abort"
    return Call("POST", path, _one(Task.from_json), objects=(f"abort of task {task_id}",))


def delete_task(task_id: str) -> Call[None]:
    """`DELETE /tasks/{task_id}`."""
    return Call("DELETE", f"tasks/{_segment(task_id)}", lambda body, headers: None, objects=(f"task {task_id}",))


def get_task(task_id: str) -> Call[Task]:
    """`GET /tasks/{task_id}`; a failed task is a normal response with status ``FAILED``."""
    return Call("GET", f"tasks/{_segment(task_id)}", _one(Task.from_json), objects=(f"task {task_id}",))


def get_tasks(task_ids: Sequence[str], *, outputs: bool = False) -> Call[list[Task | SevenBridgesApiError]]:
    """`POST /bulk/tasks/get` for at most 100 different ids, without inputs, which can be long.

    Items are matched by their ids (see `_each_of`).

    :param outputs: whether to include the outputs.
    """
    read = _each_of(task_ids, Task.from_json)
    objects = tuple(f"task {task_id}" for task_id in task_ids)
    body = {"task_ids": list(task_ids)}
    query = (("fields", f"{_POLLED},outputs" if outputs else _POLLED),)
    bounds = PAGE if outputs else POLL
    return Call("POST", "bulk/tasks/get", read, query, body, objects=objects, bounds=bounds)


def list_tasks(
    project: str,
    *,
    parent: str | None = None,
    created_from: str | None = None,
    offset: int = 0,
    limit: int = PAGE_LIMIT,
) -> Call[Page[Task]]:
    """`GET /tasks`: one page of the tasks of a project, newest first, without inputs and outputs.

    An environment may list only ids and names; then the state is ``UNKNOWN``.

    :param parent: only the tasks of this batch.
    :param created_from: only those created since, ISO 8601 text.
    """
    query = [("project", project), ("fields", _POLLED), ("order_by", "created_time"), ("order", "desc")]
    query += [(key, value) for key, value in (("parent", parent), ("created_from", created_from)) if value]
    query += [("offset", str(offset)), ("limit", str(limit))]
    return Call("GET", "tasks", _page(Task.from_list), tuple(query), objects=(f"list of tasks of project {project}",))


def get_app(app: str) -> Call[App]:
    """`GET /apps/{owner}/{project}/{app}` and, if the id ends with it, its revision; the newest otherwise."""
    path = "/".join(map(_segment, app.split("/")))
    return Call("GET", f"apps/{path}", _one(App.from_json), objects=(f"app {app}",))


def get_project(project: str) -> Call[Project]:
    """`GET /projects/{owner}/{project}`."""
    path = "/".join(map(_segment, project.split("/")))
    return Call("GET", f"projects/{path}", _one(Project.from_json), objects=(f"project {project}",))


def get_user() -> Call[User]:
    """`GET /user`: the token's user."""
    return Call("GET", "user", _one(User.from_json), objects=("user of the token",))


def get_rate_limit() -> Call[RateLimit]:
    """`GET /rate_limit`: what is left of the limit; this call does not count towards it."""
    return Call("GET", "rate_limit", _one(RateLimit.from_json), objects=("rate limit of the token",))


def _export_name(export: Export) -> str:
    return f"export of file {export.file} to {export.volume}/{export.location}"


def _export_body(export: Export) -> dict[str, Any]:
    body: dict[str, Any] = {
        "source": {"file": export.file},
        "destination": {"volume": export.volume, "location": export.location},
        "overwrite": export.overwrite,
    }
    if export.properties:
        body["properties"] = dict(export.properties)
    return body


def _copy_only(copy_only: bool) -> tuple[tuple[str, str], ...]:
    return (("copy_only", "true"),) if copy_only else ()


def _jobs_query(volume: str | None, states: Sequence[str], offset: int, limit: int) -> tuple[tuple[str, str], ...]:
    query = [("fields", "_all"), ("offset", str(offset)), ("limit", str(limit))]
    if volume:
        query.append(("volume", volume))
    return (*query, *(("state", str(state)) for state in states))


def _job_of(export: Export, job: ExportJob) -> ExportJob:
    if job.file not in (None, export.file):
        raise ValueError(f"expected an export of file {export.file}, got one of file {job.file}")
    return job


def _one(build: Callable[[Json], T]) -> Callable[[Any, Mapping[str, str]], T]:
    return lambda body, headers: build(_mapping(body))


def _page(build: Callable[[Json], T]) -> Callable[[Any, Mapping[str, str]], Page[T]]:
    def read(body: Any, headers: Mapping[str, str]) -> Page[T]:
        items = _items(body)
        if len(items) > _LONGEST_PAGE:
            raise ValueError(f"expected a page of at most {PAGE_LIMIT} items, got {len(items)}")
        links = body.get("links")
        following = [_next_page(link) for link in (links if isinstance(links, list) else []) if isinstance(link, dict)]
        return Page(
            items=[build(_mapping(item)) for item in items],
            total=parse_integer(headers.get("X-Total-Matching-Query")),
            next=next(filter(None, following), None),
        )

    return read


def _next_page(link: Json) -> str | None:
    """Return the URL in a link to the next page: ``{"rel": "next", "href": url}``, on a volume ``{"next": url}``."""
    rel = link.get("rel")
    url = link.get("href") if isinstance(rel, str) and rel.lower() == "next" else link.get("next")
    return url if isinstance(url, str) and url else None


def _each_of(
    ids: Sequence[str], build: Callable[[Json], Identified]
) -> Callable[[Any, Mapping[str, str]], list[Identified | SevenBridgesApiError]]:
    """Return a reader that returns for each id, in order, its resource, its error or a `SevenBridgesUnreadableItem`.

    A resource contains its id, in any position. An error does not: it belongs to the id in its position, but only if
    there is one item for each id and every resource is in its own position. Ids without a match get an unreadable item;
    a response without any match is an error.
    """

    def read(body: Any, headers: Mapping[str, str]) -> list[Identified | SevenBridgesApiError]:
        items = _items(body)
        named: dict[str, Identified | SevenBridgesApiError] = {}
        nameless: dict[int, Identified | SevenBridgesApiError] = {}
        in_place = len(items) == len(ids)
        for position, item in enumerate(items):
            name, result = _read_item(item, build)
            if not name:
                nameless[position] = result
                continue
            if name in named and named[name] != result:
                result = _unreadable(f"there are two different items for {readable(name, 100)}")
            named[name] = result
            in_place = in_place and ids[position] == name
        results: list[Identified | SevenBridgesApiError] = []
        for position, wanted in enumerate(ids):
            match = named.get(wanted) or (nameless.get(position) if in_place else None)
            results.append(match or _unreadable(f"there is no item for {readable(wanted, 100)}"))
        problems = [result for result in results if isinstance(result, SevenBridgesUnreadableItem)]
        if len(problems) == len(ids) > 1:
            raise ValueError(problems[0].message)
        return results

    return read


def _read_item(item: Any, build: Callable[[Json], Identified]) -> tuple[str, Identified | SevenBridgesApiError]:
    """Return the id in an item of a bulk response, empty if it has none, and the item's resource or error."""
    if not isinstance(item, dict):
        return "", _unreadable("an item is not a JSON object")
    resource = item.get("resource") or {}
    name = resource.get("id") if isinstance(resource, dict) else None
    name = name if isinstance(name, str) else ""
    if isinstance(error := item.get("error"), dict) and error:
        return name, error_from_json(error)
    if not name:
        return "", _unreadable("an item holds neither a resource with an id nor an error")
    try:
        return name, build(resource)
    except ValueError as problem:
        return name, _unreadable(f"the item of {readable(name, 100)} is not readable, {problem}")


def _unreadable(problem: str) -> SevenBridgesUnreadableItem:
    return SevenBridgesUnreadableItem(200, message=f"In the Platform's bulk response, {problem}.")


def _bulk_items(body: Any, count: int, build: Callable[[Json], T]) -> list[T | SevenBridgesApiError]:
    items = _items(body)
    if len(items) != count:
        raise ValueError(f"expected {count} items, got {len(items)}")
    results: list[T | SevenBridgesApiError] = []
    for item in map(_mapping, items):
        if isinstance(error := item.get("error"), dict) and error:
            results.append(error_from_json(error))
        else:
            results.append(build(_mapping(item.get("resource"))))
    return results


def _items(body: Any) -> list[Any]:
    items = _mapping(body).get("items")
    if not isinstance(items, list):
        raise ValueError("'items' is missing")
    return items


def _mapping(value: Any) -> Json:
    if not isinstance(value, dict):
        raise ValueError("a JSON object was expected")
    return value


def _segment(text: str) -> str:
    if text in ("", ".", ".."):
        raise SevenBridgesInputError(f"id: {text!r} is not an id; it would change the API's path.")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise SevenBridgesInputError(f"id: {text!r} is not Unicode text.") from None


def _volume_path(volume: str) -> str:
    owner, _, name = volume.rpartition("/")
    return f"{_segment(owner)}/{_segment(name)}"
