"""The settings in an Airflow connection of type ``sevenbridges``, validated."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from airflow_sb_provider import __version__
from airflow_sb_provider._compat import AirflowNotFoundException, airflow_version, get_connection_async
from airflow_sb_provider.api.environments import resolve_endpoint
from airflow_sb_provider.api.masking import Mask
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError, SevenBridgesInputError
from airflow_sb_provider.inputs import Problems, read_boolean
from airflow_sb_provider.jobs.record import GATEWAY_TIMEOUT

if TYPE_CHECKING:
    from airflow_sb_provider._compat import Connection
    from airflow_sb_provider.api.calls import Call

DEFAULT_CONN_NAME = "sevenbridges_default"
USER_AGENT = f"airflow-sb-provider/{__version__} apache-airflow/{airflow_version}"
# A shorter text is not a real token and may be an ordinary word.
SHORTEST_TOKEN = 16
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class Secret(str):
    """Text whose repr hides it, for tracebacks that show the values of variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class ConnectionSettings:
    """Endpoint, credentials and time-outs.

    Times are in seconds. ``gateway_timeout`` is for how long a request whose response was lost may still be accepted.
    ``ca_bundle`` is a file or folder of certificates, None for the default ones.
    """

    endpoint: str
    token: Secret = field(repr=False)
    bearer: bool = False
    advance_access: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    gateway_timeout: float = GATEWAY_TIMEOUT
    ca_bundle: str | None = None

    @property
    def visibility_delay(self) -> float:
        """For how many seconds lists, files and objects may not show the effect of a job: a third of the time-out."""
        return self.gateway_timeout / 3

    @property
    def total_timeout(self) -> float:
        """How long a request may take in total, however slowly its response arrives."""
        return self.connect_timeout + 2 * self.read_timeout

    @property
    def credential(self) -> str:
        """A short digest that identifies a credential; it does not reveal the token."""
        text = f"airflow-sb-provider {self.endpoint} {self.token}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request, except the token's."""
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
        }
        if self.advance_access:
            headers["X-SBG-Advance-Access"] = "Advance"
        return headers

    @property
    def auth_header(self) -> tuple[str, Secret]:
        """The header that carries the token: name and value."""
        if self.bearer:
            return "Authorization", Secret(f"Bearer {self.token}")
        return "X-SBG-Auth-Token", self.token

    def address(self, call: Call[Any]) -> str:
        """Return a call's URL.

        :raises SevenBridgesInputError: if the URL or the body contains the token, which belongs only in its header.
        """
        url = call.url(self.endpoint)
        sent = f"{unquote_plus(url)} {json.dumps(call.body)}".casefold()
        spellings = (self.token.casefold(), json.dumps(self.token)[1:-1].casefold())
        if len(self.token) >= SHORTEST_TOKEN and any(spelling in sent for spelling in spellings):
            raise SevenBridgesInputError(
                "A field of this request, such as location, contains the connection's token. Nothing was sent. Find "
                "out where the value of the field comes from; Airflow must not render names of files."
            )
        return url

    @cached_property
    def mask(self) -> Mask:
        """Hides the token in responses, since some gateways repeat a request's headers."""
        return Mask(self.token)

    @classmethod
    def from_connection(cls, connection: Connection) -> ConnectionSettings:
        """Read an Airflow connection in any of its forms (fields, URI, JSON, environment variable).

        :raises SevenBridgesInputError: naming every invalid field, but no value: a token may have been pasted into
            any of them.
        """
        problems = Problems()
        extra: Any = connection.extra_dejson
        if not isinstance(extra, dict):
            problems.texts.append('extra: not a JSON object; give the extras by name, such as {"environment": "bdc"}.')
            extra = {}

        def read(reader: Any, name: str, default: Any) -> Any:
            value = extra.get(name)
            return default if value in (None, "") else problems.read(f"extra {name}", reader, value, default)

        def environment_ca() -> str | None:
            name = next((name for name in _CA_VARIABLES if os.environ.get(name)), None)
            try:
                return _certificates(os.environ[name]) if name else None
            except ValueError as problem:
                problems.texts.append(f"environment variable {name}: {os.environ[name or '']!r}: {problem}")
                return None

        allow_http = read(_boolean, "allow_http", False)
        endpoint = ""
        try:
            endpoint = resolve_endpoint(
                connection.host,
                port=connection.port,
                scheme=_scheme(connection.schema),
                environment=read(_text, "environment", None),
                allow_http=allow_http,
            )
        except SevenBridgesInputError as error:
            problems.texts += error.problems
        token = (connection.password or "").strip()
        if not token:
            problems.texts.append(
                "password: empty; set it to the authentication token "
                "from the Platform's page Developer > Authentication token."
            )
        elif not (token.isascii() and token.isprintable() and " " not in token):
            problems.texts.append("password: contains characters that no token has; copy the token again.")
        settings = cls(
            endpoint=endpoint,
            token=Secret(token),
            # Airflow treats an extra called bearer as a secret, and its form shows every secret as switched on.
            bearer=read(_boolean, "oauth", False) or read(_boolean, "bearer", False),
            advance_access=read(_boolean, "advance_access", False),
            connect_timeout=read(_seconds, "connect_timeout", cls.connect_timeout),
            read_timeout=read(_seconds, "read_timeout", cls.read_timeout),
            gateway_timeout=read(_seconds, "gateway_timeout", cls.gateway_timeout),
            ca_bundle=read(_certificates, "ca_bundle", None) or environment_ca(),
        )
        if problems.texts:
            raise SevenBridgesInputError(f"connection {connection.conn_id!r}, {text}" for text in problems.texts)
        return settings


async def load_settings(conn_id: str) -> ConnectionSettings:
    """Get a connection from Airflow, without blocking a triggerer's event loop.

    :raises AirflowNotFoundException: if there is no such connection.
    :raises SevenBridgesInputError: if it is invalid.
    :raises SevenBridgesConnectionError: if Airflow cannot return it.
    """
    try:
        connection = await get_connection_async(conn_id)
    except AirflowNotFoundException:
        raise
    except Exception as error:
        failure = connection_failure(conn_id, error)
    else:
        return ConnectionSettings.from_connection(connection)
    raise failure


def connection_failure(conn_id: str, error: Exception) -> SevenBridgesError:
    """Return the error to raise, without chaining, when Airflow could not return a connection."""
    name = type(error).__name__
    if isinstance(error, ValueError | TypeError | KeyError):
        # The error may show the text that cannot be parsed, which may contain the token.
        return SevenBridgesInputError(
            f"connection {conn_id!r}: its value is not readable ({name}); correct its URI or JSON."
        )
    return SevenBridgesConnectionError(
        f"Airflow did not return the connection {conn_id!r}: {name}: {readable(str(error), 300)}", sent=False
    )


def ssl_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return the context that verifies the Platform's certificate, by a file or folder of CAs or the default ones."""
    if ca_bundle and os.path.isdir(ca_bundle):
        return ssl.create_default_context(capath=ca_bundle)
    return ssl.create_default_context(cafile=ca_bundle)


def _scheme(schema: str | None) -> str | None:
    # Airflow parses the path of a connection URI as the schema: sevenbridges://:token@host/v2.
    return None if (schema or "").strip("/") in ("", "v2") else schema


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("its value is not text.")
    return value


def _boolean(value: Any) -> bool:
    try:
        return read_boolean(value)
    except ValueError:
        raise ValueError("its value is not a boolean; use true or false.") from None


def _seconds(value: Any) -> float:
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError("its value is not a number of seconds above 0.")
    return seconds


def _certificates(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("its value is not a path; give a file or folder of certificates.")
    try:
        ssl_context(value)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise ValueError(f"its value cannot be used ({reason}); give a file or folder of certificates.") from None
    return value
