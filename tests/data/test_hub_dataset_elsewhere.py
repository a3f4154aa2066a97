"""Datasets of another loopback Hub, where there is one beside the repository: prepared, and streamed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from forked import Player, ask, play
from gemmazero.data.shards import TokenShards
from other_hub import environment_of, needs_other_hub, other_hub
from outcome import differences, outcome
from tiny_run import SETTINGS

pytestmark = [pytest.mark.slow, needs_other_hub, pytest.mark.timeout(600)]

REPO = "tester/stories"
TRAINING = [[f"Story {part}.{number} of a dog called Bo." for number in range(60)] for part in range(3)]
VALIDATION = ["A story that is held out.", "Another one, of a cat."]
PUSHED = """
from huggingface_hub import HfApi
HfApi().create_repo({repo!r}, repo_type="dataset", private={private})
answer = HfApi().upload_folder(repo_id={repo!r}, repo_type="dataset", folder_path="texts").oid
"""
STREAMED = """
from gemmazero.config import PrepareConfig
from gemmazero.data.stream_source import open_stream
source = open_stream({repo!r}, PrepareConfig())
answer = [source.revision, [list(part()) for part in source.parts()], list(source.validation()())]
"""
TWO_EPOCHS = SETTINGS | {"steps": 40, "batch_size": 8, "micro_batch_size": 8, "sequence_length": 32, "save_every": 4}
STREAMING = ["--stream", "--tokenizer", "bytes"] + [
    word for name, value in TWO_EPOCHS.items() for word in (f"--{name.replace('_', '-')}", str(value))
]
DOWNLOAD = {"side": "cdn", "method": "GET", "path": "/lfs/"}


@dataclass
class There:
    """A folder, the Hub, and commands in the one that take the other for the Hub."""

    folder: Path
    process: Any
    preset: Path
    xet: bool = False

    def environment(self, token: str, home: str) -> dict[str, str]:
        return environment_of(self.process, self.folder / home, token=token, xet=self.xet)

    def push(self, *, private: bool = False) -> str:
        """The commit of the dataset."""
        texts = self.folder / "texts"
        texts.mkdir()
        for part, training in enumerate(TRAINING):
            table = pyarrow.table({"text": training})
            pyarrow.parquet.write_table(table, texts / f"train-{part:05d}-of-00003.parquet")
        pyarrow.parquet.write_table(pyarrow.table({"text": VALIDATION}), texts / "validation-00000-of-00001.parquet")
        program = PUSHED.format(repo=REPO, private=private)
        commit: str = ask(self.folder, self.environment("hf_testwrite", "writer"), program)[0]
        return commit

    def prepare(self, *, token: str = "hf_testread", home: str = "home") -> Player:
        return play(self.folder, self.environment(token, home), "prepare", REPO, "--tokenizer", "bytes", "--out", "out")

    def train(self, run: str, *, token: str = "hf_testread", home: str = "home") -> Player:
        command = ("train", "--preset", self.preset, "--data", REPO, "--out", run, *STREAMING)
        return play(self.folder, self.environment(token, home), *command)

    def is_prepared(self) -> bool:
        """Whether all the stories are in the data folder, in their order."""
        shards = TokenShards(self.folder / "out", "train")
        shards.verify()
        ends = chr(shards.manifest.end_id)
        text = "".join(map(chr, shards.read(0, len(shards)).tolist()))
        held_out = TokenShards(self.folder / "out", "validation").documents
        return text == "".join(f"{story}{ends}" for part in TRAINING for story in part) and held_out == len(VALIDATION)


@pytest.fixture
def there(tmp_path: Path, tiny_preset: Path) -> Iterator[There]:
    with other_hub(tmp_path / "hub", xet=False) as process:
        yield There(tmp_path, process, tiny_preset)


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_dataset_is_the_same_prepared_and_streamed(tmp_path: Path, tiny_preset: Path, xet: bool) -> None:
    with other_hub(tmp_path / "hub", xet=xet) as process:
        there = There(tmp_path, process, tiny_preset, xet)
        commit = there.push()
        ended = there.prepare().wait()
        assert ended.code == 0, ended.output
        assert there.is_prepared()
        streamed, _ = ask(tmp_path, there.environment("hf_testread", "other"), STREAMED.format(repo=REPO))
        assert streamed == [commit, TRAINING, VALIDATION]


@pytest.mark.parametrize("token", ["hf_stranger", "hf_nobody", ""])
def test_private_dataset_is_told_to_nobody_but_its_readers(there: There, token: str) -> None:
    there.push(private=True)
    for refused in (there.prepare(token=token, home="wrong"), there.train("run", token=token, home="wrong")):
        ended = refused.wait()
        assert ended.code == 1, ended.output
        assert "error: " in ended.output
        assert "HF_TOKEN" in ended.output
        assert "Traceback" not in ended.output
        assert not token or token not in ended.output
    assert not (there.folder / "out").exists()
    assert not (there.folder / "run").exists()
    for allowed in (there.prepare(), there.train("run")):
        ended = allowed.wait()
        assert ended.code == 0, ended.output
        assert "hf_testread" not in ended.output
    assert there.is_prepared()


def test_server_that_dies_half_way_is_told_and_prepare_goes_on_when_it_is_back(there: There) -> None:
    there.push()
    control = there.process.control
    control.fault("truncate", **DOWNLOAD, skip=1)
    control.fault("kill", **DOWNLOAD, skip=1)
    ended = there.prepare().wait()
    assert there.process.proc.wait(10) == 137
    assert ended.code == 1, ended.output
    assert "could not be reached" in ended.output
    assert "Traceback" not in ended.output
    assert not (there.folder / "out").exists()
    there.process.start()
    mark = control.mark()
    ended = there.prepare().wait()
    assert ended.code == 0, ended.output
    assert there.is_prepared()
    assert downloads(there, mark) <= 3, "the first of four files was there already"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_stream_ends_as_if_its_server_had_not_died_half_way(there: There, share: float) -> None:
    there.push()
    control = there.process.control
    mark = control.mark()
    ended = there.train("straight").wait()
    assert ended.code == 0, ended.output
    control.fault("kill", **DOWNLOAD, skip=int(share * downloads(there, mark)))
    player = there.train("run", home="other")
    assert there.process.proc.wait(60) == 137
    metrics = there.folder / "run" / "metrics.jsonl"
    while player.process.exitcode is None and not (metrics.exists() and '"waiting"' in metrics.read_text()):
        time.sleep(0.05)
    if player.process.exitcode is not None:  # the run had not begun
        ended = player.wait()
        assert ended.code == 1, ended.output
        assert "could not be reached" in ended.output
    there.process.start()
    if player.process.exitcode is not None:
        player = there.train("run", home="other")
    ended = player.wait()
    assert ended.code == 0, ended.output
    assert differences(outcome(there.folder / "run"), outcome(there.folder / "straight")) == []


def downloads(there: There, mark: int) -> int:
    """How many files, or parts of one, were asked for since."""
    return sum(row["side"] == "cdn" and row["method"] == "GET" for row in there.process.control.log(mark))
