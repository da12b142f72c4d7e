"""The tab "Export" on a task instance's page.

One static page, which reads the task instance and its XComs through Airflow's own REST API, in the user's session: so
Airflow guards every read, and nothing here knows a token, a database or the Platform.
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
    """The page as an ASGI application: three files, and needs no library."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, kind, body = self._answer(scope["method"], scope["path"].removeprefix(scope.get("root_path", "")))
        headers = {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}
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
    def _answer(method: str, path: str) -> tuple[int, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return 405, plain, b"Only GET and HEAD."
        if path.lstrip("/") not in _FILES:
            return 404, plain, b"No such page."
        name, kind = _FILES[path.lstrip("/")]
        return 200, kind, _read(name)


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


class SevenBridgesExportPlugin(AirflowPlugin):
    """Shows the tab, which an Airflow that knows no external views ignores, and lets tasks read XComs of ours."""

    name = "sevenbridges_export"

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Let this process read what tasks returned of what the hook returns."""
        from airflow_sb_provider.xcoms import allow_results

        allow_results()

    fastapi_apps: list[Any] = [  # noqa: RUF012
        {"app": StaticFilesApp(), "url_prefix": PREFIX, "name": "Seven Bridges export"},
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "Export",
            # Relative, so that it is found where Airflow is served under a path of its own.
            "href": f"{PREFIX[1:]}/?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
            "destination": "task_instance",
            "url_route": "sevenbridges-export",
            "icon": f"{PREFIX[1:]}/icon.svg",
        },
    ]
