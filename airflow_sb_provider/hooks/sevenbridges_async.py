"""The asynchronous hook for triggers, on aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import aiohttp
import requests.utils
from tenacity import AsyncRetrying
from yarl import URL

from airflow_sb_provider._compat import BaseHook
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import RateLimit
from airflow_sb_provider.api.replies import Body, read_reply
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError
from airflow_sb_provider.hooks.connection import (
    DEFAULT_CONN_NAME,
    ConnectionSettings,
    load_settings,
    ssl_context,
)
from airflow_sb_provider.hooks.retry import clean, fail, no_response, retry_rules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import ExportJob
    from airflow_sb_provider.exceptions import SevenBridgesApiError

T = TypeVar("T")

# The errors that aiohttp raises before any part of a request is sent.
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class SevenBridgesAsyncHook(BaseHook):
    """Interact with the Seven Bridges Platform, from triggers: an asynchronous context manager with one session.

    ``rate_limit`` is that of the last response.

    :param sevenbridges_conn_id: the Airflow connection, of type ``sevenbridges``.
    """

    def __init__(self, sevenbridges_conn_id: str = DEFAULT_CONN_NAME) -> None:
        super().__init__()
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self._settings: ConnectionSettings | None = None
        self._session: aiohttp.ClientSession | None = None
        self.rate_limit: RateLimit | None = None

    async def __aenter__(self) -> SevenBridgesAsyncHook:
        """Read the connection and open the session."""
        await self.reconnect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        await self.close()

    async def close(self) -> None:
        """Close the session, if one is open."""
        if self._session:
            await self._session.close()
            self._session = None

    async def reconnect(self) -> None:
        """Read the connection again: its token may have been replaced.

        :raises AirflowNotFoundException: if there is no such connection.
        :raises SevenBridgesConnectionError: if Airflow cannot return it.
        """
        await self.connect(await load_settings(self.sevenbridges_conn_id))

    async def connect(self, settings: ConnectionSettings) -> None:
        """Use these settings; open a new session if they changed."""
        if settings == self._settings and self._session:
            return
        await self.close()
        self._settings = settings
        secure = settings.endpoint.startswith("https:")
        self._session = aiohttp.ClientSession(
            headers=settings.headers,
            connector=aiohttp.TCPConnector(ssl=secure and ssl_context(settings.ca_bundle), limit=4),
            timeout=aiohttp.ClientTimeout(
                total=settings.total_timeout,
                sock_connect=settings.connect_timeout,
                sock_read=settings.read_timeout,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, call: Call[T], *, retry: bool = True) -> T:
        """Send a call, retry it where that is safe, and return its result.

        :param retry: false to send it only once, for callers who retry themselves.
        :raises SevenBridgesReplyLost: if a call that must not be repeated may have been accepted.
        """
        if not retry:
            return await self._send_once(call)
        return await AsyncRetrying(**retry_rules(self.log))(self._send_once, call)

    async def _send_once(self, call: Call[T]) -> T:
        if self._settings is None or self._session is None:
            await self.reconnect()
        settings, session = self._settings, self._session
        assert settings is not None
        assert session is not None
        failure: SevenBridgesError
        try:
            return await self._exchange(call, settings, session)
        except SevenBridgesError as error:
            failure = error
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = no_response(call, settings.mask.parts(_text_of(error)), sent=not isinstance(error, _UNSENT))
        # Not chained, since aiohttp's error may show the request's headers.
        fail(call, failure, settings.mask)

    async def _exchange(self, call: Call[T], settings: ConnectionSettings, session: aiohttp.ClientSession) -> T:
        url = settings.address(call)
        async with session.request(
            call.method,
            URL(url, encoded=True),
            json=call.body,
            headers=dict([settings.auth_header]),
            allow_redirects=False,
            proxy=_proxy(url),
        ) as response:
            self.rate_limit = RateLimit.from_headers(response.headers)
            body = Body(call, response.status, response.headers)
            async for chunk in response.content.iter_any():
                body.add(chunk)
        value = read_reply(call, response.status, response.headers, body.whole(), settings.mask)
        return clean(call, value, settings.mask)

    async def get_exports(
        self, export_ids: Sequence[str], *, retry: bool = True
    ) -> list[ExportJob | SevenBridgesApiError]:
        """Return the job or the error for each of at most 100 ids, in order; use it in your own triggers."""
        return await self.send(calls.get_exports(export_ids), retry=retry)


def _text_of(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        # Its own text shows the URL, which may be a proxy's with its password.
        return f"{error.message} ({error.status})"
    return str(error) or type(error).__name__


def _proxy(url: str) -> str | None:
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return None
    try:
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        usable = URL(proxy).scheme in ("http", "https") and URL(proxy).host
    except ValueError:
        usable = None
    if not usable:
        raise SevenBridgesConnectionError(
            "The proxy in the environment variables is invalid; use an http address.", sent=False
        )
    return proxy
