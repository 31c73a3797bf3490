"""Child: what one of several processes of a service knows of the parent that started it."""

import contextlib
import os
import signal
import socket
import threading
from typing import Self

from quarterdeck.cli.stopping import Stopping

VARIABLE = "_QUARTERDECK_CHILD"
"""Names the two sockets that a child inherits: `<listening>,<to the parent>`."""
READY, LEAVING = b"ready\n", b"leaving\n"
STOP, HURRY = b"stop\n", b"hurry\n"
"""What children tell, and what they are told. The end of the connection is the end of the other side."""
MARGIN = 8.0
"""Seconds after the grace period by which a child is over: less than its parent has, who stops after it."""


class Child:
    """This process, as one of several. `listener` is the socket that all of them accept from.

    The parent asks by a connection, not by signals: of a signal that somebody sends to all processes at once, as
    service managers do, a child must not take the parent's share for a second one. Without its parent a child stops.
    """

    def __init__(self, listener: socket.socket, parent: socket.socket) -> None:
        self.listener = listener
        self._parent = parent

    @classmethod
    def adopt(cls) -> Self | None:
        """This process as a child; None if it is none."""
        # Whatever this process starts is no child of that kind.
        described = os.environ.pop(VARIABLE, None)
        if described is None:
            return None
        listener, parent = (socket.socket(fileno=int(number)) for number in described.split(","))
        for inherited in (listener, parent):
            inherited.set_inheritable(False)
        return cls(listener, parent)

    def obey(self, stopping: Stopping) -> None:
        """From now on does what the parent asks, whatever the event loop does meanwhile."""
        signal.signal(signal.SIGHUP, lambda *_: None)  # who means all processes means the parent
        threading.Thread(target=self._listen, args=(stopping,), name="parent", daemon=True).start()

    def tell(self, words: bytes) -> None:
        """Tells the parent that this process is READY or LEAVING."""
        with contextlib.suppress(OSError):  # it is gone, and the thread has noticed
            self._parent.sendall(words)

    def _listen(self, stopping: Stopping) -> None:
        with contextlib.suppress(OSError), self._parent.makefile("rb") as orders:
            for order in orders:
                stopping.ask(2 if order == HURRY else 1)
        stopping.ask(1)
