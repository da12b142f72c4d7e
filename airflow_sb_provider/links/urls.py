"""The addresses of web pages; None unless an address is certain, because a wrong link is worse than none.

The local Platform has pages of its own, so that its links can be tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_sb_provider.api.environments import ENVIRONMENTS, is_loopback, origin

if TYPE_CHECKING:
    from airflow_sb_provider.api.environments import Environment

_S3 = "https://s3.console.aws.amazon.com/s3"
_GCS = "https://console.cloud.google.com/storage/browser"
LOCAL_PAGES = "/_local/pages"
"""Where the local Platform serves its pages."""


def known_environment(endpoint: str) -> Environment | None:
    """Return the environment of an API endpoint; None for an unknown one, such as the local Platform."""
    known = {origin(environment.endpoint): environment for environment in ENVIRONMENTS.values()}
    return known.get(origin(endpoint))


def local_pages(endpoint: str) -> str | None:
    """Return the address below which the local Platform serves pages; None for an endpoint that is not on loopback."""
    scheme, host, port = origin(endpoint)
    if scheme != "http" or not is_loopback(host) or known_environment(endpoint):
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{LOCAL_PAGES}"


def is_page(address: object) -> bool:
    """Whether a link may lead there."""
    if not isinstance(address, str):
        return False
    return address.startswith("https://") or address.startswith(f"{local_pages(address)}/")


def project_page(endpoint: str, project: str | None) -> str | None:
    """Return the page of a project (``owner/short-name``)."""
    environment = known_environment(endpoint)
    web = environment.web if environment else local_pages(endpoint)
    return f"{web}/u/{quote(project)}/" if web and project and _is_id(project) else None


def file_page(endpoint: str, project: str | None, file_id: str | None) -> str | None:
    """Return the page of a project's file; for the local Platform, ``project`` may be unknown."""
    if not file_id:
        return None
    if local := local_pages(endpoint):
        return f"{local}/files/{quote(file_id, safe='')}/"
    page = project_page(endpoint, project)
    return f"{page}files/{quote(file_id, safe='')}/" if page else None


def task_page(endpoint: str, project: str | None, task_id: str | None) -> str | None:
    """Return the page of a task of the Platform."""
    page = project_page(endpoint, project)
    return f"{page}tasks/{quote(task_id, safe='')}/" if page and task_id else None


def app_page(endpoint: str, app: str) -> str | None:
    """Return the page of an app: in the web interface a part of the page with the project's apps."""
    owner, project, *rest = app.split("/")
    page = project_page(endpoint, f"{owner}/{project}")
    return f"{page}apps/#{quote(app)}" if page and rest else None


def object_page(endpoint: str, uri: str | None) -> str | None:
    """Return the page of an object (``s3://bucket/key`` or ``gs://bucket/key``) in its cloud's console."""
    scheme, bucket, key = _parts(endpoint, uri)
    if not (bucket and key):
        return None
    if local := local_pages(endpoint):
        return f"{local}/buckets/{quote(bucket, safe='')}/{quote(key)}"
    if scheme == "s3":
        return f"{_S3}/object/{quote(bucket, safe='')}?prefix={quote(key)}"
    return f"{_GCS}/_details/{quote(bucket, safe='')}/{quote(key)}"


def folder_page(endpoint: str, uri: str | None) -> str | None:
    """Return the page of all objects under a prefix (``s3://bucket/prefix``) in their cloud's console."""
    scheme, bucket, prefix = _parts(endpoint, uri)
    if not bucket:
        return None
    prefix = prefix.rstrip("/")
    if local := local_pages(endpoint):
        return f"{local}/buckets/{quote(bucket, safe='')}/" + (f"{quote(prefix)}/" if prefix else "")
    if scheme == "s3":
        query = f"?prefix={quote(prefix)}/" if prefix else ""
        return f"{_S3}/buckets/{quote(bucket, safe='')}{query}"
    return f"{_GCS}/{quote(bucket, safe='')}" + (f"/{quote(prefix)}" if prefix else "")


def _parts(endpoint: str, uri: str | None) -> tuple[str, str, str]:
    """Split an object's address; all parts are empty for an unknown environment, whose buckets may be anywhere."""
    scheme, _, rest = (uri or "").partition("://")
    if scheme not in ("s3", "gs") or not (known_environment(endpoint) or local_pages(endpoint)):
        return "", "", ""
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def _is_id(project: str) -> bool:
    owner, _, name = project.partition("/")
    return bool(owner and name) and "/" not in name and not {owner, name} & {".", ".."}
