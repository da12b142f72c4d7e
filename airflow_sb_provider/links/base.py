"""The base of the links on a task's details page.

Airflow reads a link's address from an XCom in its database. The operators write it as soon as the address is known,
bypassing any XCom backend, as Airflow does. When a task's process ends, Airflow calls ``get_link`` and overwrites it.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_sb_provider._compat import BaseOperatorLink
from airflow_sb_provider._compat import PlainXCom as XCom
from airflow_sb_provider.links.urls import is_page

log = logging.getLogger(__name__)


class SevenBridgesLink(BaseOperatorLink):
    """A link whose address the operator pushes as an XCom; empty if the address is unknown."""

    name = ""

    @property
    def xcom_key(self) -> str:
        """The key of the XCom that holds the address."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, or an empty text if it is unknown; never raises."""
        known: dict[str, str] = getattr(operator, "known_links", {})
        if self.xcom_key in known:
            return known[self.xcom_key]
        try:
            address = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        except Exception as error:
            log.debug("No address for the link %r: %s", self.name, error)
            return ""
        # An XCom backend may have left a reference there.
        return str(address) if is_page(address) else ""
