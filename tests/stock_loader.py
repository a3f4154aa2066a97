"""What stock transformers makes of a repository on the loopback Hub, in a process of its own."""

import multiprocessing
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from forked import Streams, settle_in
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.storage.model_folder import load_model
from hub_server.server import HubServer
from hub_server.store import RefusedError, Repo

TEXT = "ant bee cat"
PATIENCE = 120.0  # seconds


@dataclass
class StockLoader:
    """Asks ``hub`` where nothing goes wrong. ``loaded`` counts how often a model came."""

    hub: HubServer
    connection: "Connection[Any, Any]"
    loaded: int = 0

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def problems(self, repo: Repo) -> list[str]:
        """What is wrong with main: it holds a model that the Auto classes do not load, or with other logits than ours.

        Looked at again where somebody pushes meanwhile.
        """
        with self._lock:
            while True:
                sha = repo.resolve("main").sha
                found = self._problems(repo)
                if sha == repo.resolve("main").sha:
                    return found

    def _problems(self, repo: Repo) -> list[str]:
        try:
            files = repo.state("main")
        except RefusedError as refused:
            return [f"main: {refused.message}"]
        if not [path for path in files if path.startswith("model")]:
            return []
        self.connection.send(repo.name)
        if not self.connection.poll(PATIENCE):
            return ["main: stock transformers does not answer"]
        answer = self.connection.recv()
        if isinstance(answer, str):
            return [f"main does not load: {answer}"]
        self.loaded += 1
        ids, logits = answer
        ours_ids, ours = _by_us(files)
        if ids != ours_ids:
            return [f"main: the tokenizer gives {ids} in place of {ours_ids}"]
        difference = (torch.tensor(logits) - ours).abs().max().item()
        return [f"main: logits differ by {difference}"] if difference > 1e-5 else []


@contextmanager
def stock_loader(hub: HubServer, home: Path) -> Iterator[StockLoader]:
    """A process that loads models with transformers from ``hub``, with ``home`` for its own folder."""
    ours, its = multiprocessing.Pipe()
    home.mkdir(parents=True)
    environment = hub.environment(home, HF_ENDPOINT=hub.undisturbed_url)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_load, args=(its, str(home), environment), daemon=True)
    process.start()
    try:
        yield StockLoader(hub, ours)
    finally:
        process.kill()
        process.join()


def _by_us(files: dict[str, bytes]) -> tuple[list[int], torch.Tensor]:
    with tempfile.TemporaryDirectory() as name:
        for path, content in files.items():
            (Path(name) / path).write_bytes(content)
        ids = Tokenizer.load(Path(name)).encode(TEXT)
        model = load_model(Path(name), device="cpu", dtype=torch.float32)
        with torch.no_grad():
            return ids, model(torch.tensor([ids]))[0]


def _load(connection: "Connection[Any, Any]", folder: str, environment: dict[str, str]) -> None:
    settle_in(folder, environment, Streams(output=f"{folder}/output.txt", errors=f"{folder}/output.txt"))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    while True:
        name = connection.recv()
        try:
            with tempfile.TemporaryDirectory() as cache:  # a cache that had it could stand in for the Hub
                tokenizer = AutoTokenizer.from_pretrained(name, cache_dir=cache)
                model = AutoModelForCausalLM.from_pretrained(name, cache_dir=cache).float().eval()
                ids = tokenizer(TEXT, return_tensors="pt").input_ids
                with torch.no_grad():
                    connection.send((ids[0].tolist(), model(ids).logits[0].tolist()))
        except Exception:
            connection.send(traceback.format_exc())
