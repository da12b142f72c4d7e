"""Airflow's simple auth manager, with one user who may see no Dag: it knows roles only, and each sees all Dags."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

OUTSIDER = "outsider"


class OutsiderAuthManager(SimpleAuthManager):
    """Decides as the simple one does, but refuses the outsider everything that belongs to a Dag."""

    def is_authorized_dag(self, *, user: Any, **what: Any) -> bool:
        """Whether the user may do this with a Dag or what belongs to it."""
        return user.get_name() != OUTSIDER and super().is_authorized_dag(user=user, **what)
