"""The addresses of web pages; None unless an address is certain, because a wrong link is worse than none."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_sb_provider.api.environments import ENVIRONMENTS, origin

if TYPE_CHECKING:
    from airflow_sb_provider.api.environments import Environment

_S3 = "https://s3.console.aws.amazon.com/s3"
_GCS = "https://console.cloud.google.com/storage/browser"


def known_environment(endpoint: str) -> Environment | None:
    """Return the environment of an API endpoint; None for an unknown one, such as the local Platform."""
    known = {origin(environment.endpoint): environment for environment in ENVIRONMENTS.values()}
    return known.get(origin(endpoint))


def project_page(endpoint: str, project: str | None) -> str | None:
    """Return the page of a project (``owner/short-name``)."""
    environment = known_environment(endpoint)
    if not (environment and environment.web and project and _is_id(project)):
        return None
    return f"{environment.web}/u/{quote(project)}/"


def file_page(endpoint: str, project: str | None, file_id: str | None) -> str | None:
    """Return the page of a project's file."""
    page = project_page(endpoint, project)
    return f"{page}files/{quote(file_id, safe='')}/" if page and file_id else None


def object_page(endpoint: str, uri: str | None) -> str | None:
    """Return the page of an object (``s3://bucket/key`` or ``gs://bucket/key``) in its cloud's console."""
    scheme, bucket, key = _parts(endpoint, uri)
    if not (bucket and key):
        return None
    if scheme == "s3":
        return f"{_S3}/object/{quote(bucket, safe='')}?prefix={quote(key)}"
    return f"{_GCS}/_details/{quote(bucket, safe='')}/{quote(key)}"


def folder_page(endpoint: str, uri: str | None) -> str | None:
    """Return the page of all objects under a prefix (``s3://bucket/prefix``) in their cloud's console."""
    scheme, bucket, prefix = _parts(endpoint, uri)
    if not bucket:
        return None
    prefix = prefix.rstrip("/")
    if scheme == "s3":
        query = f"?prefix={quote(prefix)}/" if prefix else ""
        return f"{_S3}/buckets/{quote(bucket, safe='')}{query}"
    return f"{_GCS}/{quote(bucket, safe='')}" + (f"/{quote(prefix)}" if prefix else "")


def _parts(endpoint: str, uri: str | None) -> tuple[str, str, str]:
    """Split an object's address; all parts are empty for an unknown environment, whose buckets may be anywhere."""
    scheme, _, rest = (uri or "").partition("://")
    if scheme not in ("s3", "gs") or known_environment(endpoint) is None:
        return "", "", ""
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def _is_id(project: str) -> bool:
    owner, _, name = project.partition("/")
    return bool(owner and name) and "/" not in name and not {owner, name} & {".", ".."}
