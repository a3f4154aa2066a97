"""A Hub of model repositories on the loopback interface, in LFS mode, for the unmodified client in a child process."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from hub_server.faults import Do, Fault, Faults
from hub_server.handler import Handler
from hub_server.store import Repo

TOKEN, READER, STRANGER = "hf_tokenthatwrites", "hf_tokenthatreads", "hf_tokenofastranger"


@dataclass(frozen=True)
class Account:
    """Whom a token stands for: a user, who writes in some organisations, and only reads in others."""

    user: str
    role: str
    orgs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass
class HubServer:
    """What is served, and what was asked.

    ``undisturbed_url`` serves the same, where nothing goes wrong. ``quota`` is the most bytes of large objects in all,
    which are the files with a name that ends as ``large`` says, and those over 10 MB.
    ``watchers`` are told of each ``commit``, ``squash`` and ``free``, with its branch, before the client is.
    """

    url: str = ""
    undisturbed_url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    requests: list[str] = field(default_factory=list)
    quota: float = float("inf")
    large: tuple[str, ...] = (".safetensors", ".png")
    refused_for_quota: int = 0
    dead_until: float = 0.0
    watchers: list[Callable[[str, str], object]] = field(default_factory=list)

    def fail(self, do: Do, pattern: str, **how: object) -> Fault:
        """From now on a ``Fault``."""
        return self.faults.add(Fault(do, pattern, **how))  # type: ignore[arg-type]

    def environment(self, home: Path, *, token: str = TOKEN, **more: str) -> dict[str, str]:
        """This process's environment, for a child that takes this for the Hub, and ``home`` for its own folder."""
        return (
            {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
            | {
                "HF_ENDPOINT": self.url,
                "HF_HOME": str(home),
                "HF_TOKEN": token,
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_UPDATE_CHECK": "1",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_ETAG_TIMEOUT": "15",
                "HF_HUB_DOWNLOAD_TIMEOUT": "15",
                "DISABLE_SAFETENSORS_CONVERSION": "1",
                "GEMMAZERO_HUB_TIMEOUT": "15",
                "NO_PROXY": "127.0.0.1,localhost",
            }
            | more
        )

    def die(self, seconds: float) -> None:
        """Answer nobody for so long."""
        self.dead_until = time.monotonic() + seconds

    @property
    def is_dead(self) -> bool:
        """Whether it answers nobody now."""
        return time.monotonic() < self.dead_until

    @property
    def bytes_kept(self) -> int:
        """Of all large objects of all repositories."""
        return sum(len(content) for repo in self.repos.values() for content in repo.objects.values())


@contextmanager
def serving() -> Iterator[HubServer]:
    """A Hub with three tokens and no repository, until the block is left."""
    hub = HubServer()
    hub.accounts[TOKEN] = Account("tester", "write", ("lab",))
    hub.accounts[READER] = Account("tester", "read", ("lab",))
    hub.accounts[STRANGER] = Account("stranger", "write")

    class Disturbed(Handler):
        served = hub

    class Undisturbed(Disturbed):
        is_undisturbed = True

    with _listening(Disturbed) as hub.url, _listening(Undisturbed) as hub.undisturbed_url:
        yield hub


@contextmanager
def _listening(handler: type[Handler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed is no error of ours
