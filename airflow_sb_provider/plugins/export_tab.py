"""The tab *Seven Bridges* on a task instance's page.

It is a static page that reads the task instance and its XComs through Airflow's REST API in the user's session. Airflow
checks the permissions of every read; the page has no access to a token, a database or the Platform.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from airflow.sdk.plugins_manager import AirflowPlugin

    Message = MutableMapping[str, Any]
else:
    try:
        from airflow.sdk.plugins_manager import AirflowPlugin
    except ImportError:
        from airflow.plugins_manager import AirflowPlugin

PREFIX = "/sevenbridges-export"
_FOLDER = Path(__file__).parent / "page"
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "tab.js": ("tab.js", "text/javascript; charset=utf-8"),
    "tab.css": ("tab.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StaticFilesApp:
    """An ASGI application that serves the page's files and needs no library."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        status, media_type, body = self._respond(
            scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        )
        headers = {**_HEADERS, "Content-Type": media_type, "Content-Length": str(len(body))}
        if status == 405:
            headers["Allow"] = "GET, HEAD"
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    @staticmethod
    def _respond(method: str, path: str) -> tuple[int, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return 405, plain, b"Only GET and HEAD."
        if path.lstrip("/") not in _FILES:
            return 404, plain, b"No such page."
        name, media_type = _FILES[path.lstrip("/")]
        return 200, media_type, _read(name)


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


class SevenBridgesExportPlugin(AirflowPlugin):
    """Adds the tab on Airflow 3.1 and later, and lets tasks read XComs that contain the hook's return values."""

    name = "sevenbridges_export"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Allow this process to deserialize the hook's return values."""
        from airflow_sb_provider.xcoms import allow_results

        allow_results()

    fastapi_apps: list[Any] = [  # noqa: RUF012
        {"app": StaticFilesApp(), "url_prefix": PREFIX, "name": "Seven Bridges"},
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "Seven Bridges",
            # Relative, because Airflow may be served under a path.
            "href": f"{PREFIX[1:]}/?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
            "destination": "task_instance",
            "url_route": "sevenbridges-export",
            "icon": f"{PREFIX[1:]}/icon.svg",
            # Airflow 3.4 shows the tab only on tasks with this templated field: the provider's operators and sensors,
            # and their subclasses. Earlier versions ignore the key and show it on every task.
            "applies_to": {"task.template_fields": ["sevenbridges_conn_id"]},
        },
    ]
