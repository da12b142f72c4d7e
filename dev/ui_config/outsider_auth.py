"""Airflow's simple auth manager with a user who may not see any Dag; its own roles can all see every Dag."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

OUTSIDER = "outsider"


class OutsiderAuthManager(SimpleAuthManager):
    """Decides like the simple auth manager, but denies the outsider everything that belongs to a Dag."""

    def is_authorized_dag(self, *, user: Any, **what: Any) -> bool:
        """Whether the user may access a Dag or what belongs to it."""
        return user.get_name() != OUTSIDER and super().is_authorized_dag(user=user, **what)
