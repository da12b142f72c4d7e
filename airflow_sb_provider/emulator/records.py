"""The record of each request, and the current request."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_sb_provider.emulator.errors import ApiError

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDictProxy, MultiMapping

    from airflow_sb_provider.emulator.platform import User

Event = Literal["request", "accepted"]


@dataclass
class RequestRecord:
    """A received request and its result."""

    method: str
    path: str
    query: MultiMapping[str]
    headers: CIMultiDictProxy[str]
    json: Any
    peer: tuple[str, int] | None
    """The caller's address and port, which identify its process."""
    time: float = field(default_factory=time.time)
    status: int | None = None
    """The status of the response; None before there is one, or if the connection was cut."""
    user: User | None = None
    exports: list[str] = field(default_factory=list)
    """The ids of the exports that this request started."""
    tasks: list[str] = field(default_factory=list)
    """The ids of the tasks that this request created or ran."""
    troubles: list[str] = field(default_factory=list)
    """The kinds of the faults that affected it."""

    @property
    def username(self) -> str | None:
        """The owner of the token, if the token is valid."""
        return self.user.username if self.user else None

    def as_json(self) -> dict[str, Any]:
        """Return the record without the caller's token."""
        known = {name: value for name, value in vars(self).items() if name != "user"}
        secret = {"x-sbg-auth-token", "authorization"}
        return {
            **known,
            "username": self.username,
            "query": {name: self.query.getall(name) for name in self.query},
            "headers": {name: "***" if name.lower() in secret else value for name, value in self.headers.items()},
        }


current_record: ContextVar[RequestRecord] = ContextVar("current_record")
"""The request that the current asyncio task responds to."""


def current_user() -> User:
    """Return the user of the current request."""
    user = current_record.get().user
    if user is None:
        raise ApiError(90001)
    return user


def token_of(request: web.Request) -> str:
    """Return the token of a request; empty if it has none."""
    if token := request.headers.get("X-SBG-Auth-Token"):
        return token
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""
