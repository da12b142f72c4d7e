"""The log of who asked what, and the request that is being answered."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_sb_provider.emulator.errors import Refusal

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDictProxy, MultiMapping

    from airflow_sb_provider.emulator.platform import User

Event = Literal["request", "accepted"]


@dataclass
class RequestRecord:
    """One request that was received, and what became of it."""

    method: str
    path: str
    query: MultiMapping[str]
    headers: CIMultiDictProxy[str]
    json: Any
    peer: tuple[str, int] | None
    """The caller's address and port, by which its process can be found."""
    time: float = field(default_factory=time.time)
    status: int | None = None
    """The status answered; None while nothing is, or if the connection was cut."""
    user: User | None = None
    exports: list[str] = field(default_factory=list)
    """The ids of the jobs that this request started."""
    troubles: list[str] = field(default_factory=list)
    """The kinds of trouble that struck it."""

    @property
    def username(self) -> str | None:
        """Whose token it bore, if it was a good one."""
        return self.user.username if self.user else None

    def as_json(self) -> dict[str, Any]:
        """The record without the caller's token."""
        known = {name: value for name, value in vars(self).items() if name != "user"}
        secret = {"x-sbg-auth-token", "authorization"}
        return {
            **known,
            "username": self.username,
            "query": {name: self.query.getall(name) for name in self.query},
            "headers": {name: "***" if name.lower() in secret else value for name, value in self.headers.items()},
        }


answering: ContextVar[RequestRecord] = ContextVar("answering")
"""The request that the current task answers."""


def current_user() -> User:
    """Whose request is being answered."""
    user = answering.get().user
    if user is None:
        raise Refusal(90001)
    return user


def token_of(request: web.Request) -> str:
    """The token that a request bears; empty if it bears none."""
    given = request.headers.get("X-SBG-Auth-Token")
    if given:
        return given
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""
