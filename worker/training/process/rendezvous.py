"""Where the processes of one training find each other: a store on the loopback interface.

torch's own rendezvous listens on every interface of the machine, and whoever writes into its store
can make a process connect to him and read what he sends. Here nobody outside the machine can.
"""

import socket

from torch.distributed import TCPStore  # type: ignore[attr-defined] # it is documented there
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
)

__all__ = ["LOOPBACK", "LocalRendezvous"]

LOOPBACK = "127.0.0.1"


class LocalRendezvous(RendezvousHandler):
    """A rendezvous of one launcher, which needs nobody else to begin.

    Args:
        name: The name of the job.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        with socket.create_server((LOOPBACK, 0)) as server:
            self._port: int = server.getsockname()[1]
            self._store = TCPStore(
                LOOPBACK,
                self._port,
                is_master=True,
                wait_for_workers=False,
                master_listen_fd=server.detach(),
            )

    def get_backend(self) -> str:
        """Return a name for logs."""
        return "local"

    @property
    def use_agent_store(self) -> bool:
        """True: the ranks use the store of their launcher."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Return the store at once: there is one launcher."""
        place = RendezvousStoreInfo(LOOPBACK, self._port)
        return RendezvousInfo(PrefixStore(self._name, self._store), 0, 1, place)

    def is_closed(self) -> bool:
        """False: it lasts as long as its launcher."""
        return False

    def set_closed(self) -> None:
        """Do nothing; nobody else can come."""

    def num_nodes_waiting(self) -> int:
        """Return 0: nobody else can come."""
        return 0

    def get_run_id(self) -> str:
        """Return the name of the job."""
        return self._name

    def shutdown(self) -> bool:
        """Return True; the store closes with the launcher."""
        return True
