"""Who a process is to the others."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence

from quarterdeck.config import Settings
from quarterdeck.store.workers import WorkerIdentity


def identity_of(settings: Settings, kinds: Sequence[str], version: str) -> WorkerIdentity:
    """A new identity of this process, which runs jobs of these kinds if its role is to run any."""
    host = socket.gethostname()
    runs = settings.role != "web"
    return WorkerIdentity(
        id=f"{host}-{os.getpid()}-{secrets.token_hex(4)}",
        host=host,
        pid=os.getpid(),
        role=settings.role,
        queues=settings.queues,
        kinds=kinds if runs else [],
        slots=settings.concurrency if runs else 0,
        version=version,
    )
