"""An SMTP server on loopback, for mails that Airflow sends."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import EmailMessage


class Mailbox(socketserver.ThreadingTCPServer):
    """An SMTP server on loopback that keeps every mail."""

    daemon_threads = True

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        super().__init__(("127.0.0.1", 0), _Session)

    def connection_json(self) -> str:
        """Return an Airflow connection to this server."""
        extra = {"disable_tls": True, "disable_ssl": True}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.server_address[1], "extra": extra})


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Answer one client."""
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 end with a dot\r\n")
                lines = [part.removeprefix(b".") for part in iter(self.rfile.readline, b".\r\n")]
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                self.server.mails.append(mail)  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 OK\r\n")
