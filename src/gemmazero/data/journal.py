"""Journal: what is finished of a data folder that is being made, so that a killed ``prepare`` goes on."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from gemmazero.data.shard_writer import Shard
from gemmazero.data.shards import SPLITS, FileFacts, Split, file_facts
from gemmazero.folder import write_file
from gemmazero.json_file import LARGEST_JSON, parse_json
from gemmazero.regular_file import read_bytes

_NAME = "progress.json"


class Journal:
    """Notes beside an unfinished folder, believed only as far as its files are what they say.

    Args:
        folder: the unfinished folder. What is in it and not in the notes goes.
        making: all that decides what the folder will hold. Notes of anything else are not gone on with.

    Raises OSError, or GemmaZeroError, where the disk refuses.
    """

    def __init__(self, folder: Path, making: Mapping[str, Any]) -> None:
        self.tokenizer: dict[str, FileFacts] = {}
        """The files of a tokenizer that was trained."""
        self.held_out_below: int | None = None
        """What ``Reading`` is to take in place of its own, once that is known."""
        self.shards: dict[Split, list[Shard]] = {split: [] for split in SPLITS}
        self.started_over = ""
        """Why what another process left is not gone on with; empty where it is, or there was nothing."""
        self._folder, self._making = folder, dict(making)
        self._file = folder.parent / _NAME
        if self._file.exists():
            self.started_over = self._read()
        self.tidy()

    @property
    def is_begun(self) -> bool:
        """Whether there is anything to go on with."""
        return bool(self.tokenizer) or any(self.shards.values())

    def keep_tokenizer(self, names: Sequence[str], held_out_below: int) -> None:
        """These files of the folder are finished, and what is held out is settled."""
        self.tokenizer = {name: file_facts(self._folder / name) for name in names}
        self.held_out_below = held_out_below
        self._write()

    def keep(self, split: Split, shard: Shard) -> None:
        """A token file of the folder is finished."""
        self.shards[split].append(shard)
        self._write()

    def forget_shards(self, held_out_below: int) -> None:
        """Write all token files anew, to hold out another share."""
        self.shards = {split: [] for split in SPLITS}
        self.held_out_below = held_out_below
        self._write()
        self.tidy()

    def tidy(self) -> None:
        """Remove from the folder what is not finished."""
        finished = {*self.tokenizer, *(shard.name for shards in self.shards.values() for shard in shards)}
        for path in self._folder.iterdir():
            if path.name not in finished:
                path.unlink()

    def _write(self) -> None:
        record = {
            "making": self._making,
            "tokenizer": {name: dataclasses.asdict(facts) for name, facts in self.tokenizer.items()},
            "held_out_below": self.held_out_below,
            "shards": {split: [dataclasses.asdict(shard) for shard in self.shards[split]] for split in SPLITS},
        }
        write_file(self._file, json.dumps(record, indent=2) + "\n")

    def _read(self) -> str:
        """Take over what the notes say and the files bear out; else why not."""
        try:
            record = parse_json(read_bytes(self._file, LARGEST_JSON))
            making = dict(record["making"])
            tokenizer = {str(name): FileFacts(**facts) for name, facts in record["tokenizer"].items()}
            shards = {split: [Shard(**entry) for entry in record["shards"][split]] for split in SPLITS}
            held_out_below = record["held_out_below"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return "its notes cannot be read"
        for name in sorted(making.keys() | self._making.keys()):
            if making.get(name) != self._making.get(name):
                return f'its {name} is "{making.get(name)}", not "{self._making.get(name)}"'
        if not all(self._is_there(name, facts) for name, facts in tokenizer.items()):
            return "its tokenizer is damaged"
        self.tokenizer, self.held_out_below = tokenizer, held_out_below
        self.shards = {split: list(takewhile(self._is_finished, shards[split])) for split in SPLITS}
        return ""

    def _is_finished(self, shard: Shard) -> bool:
        counts = (shard.documents_before, shard.tokens_before)
        return all(type(count) is int and count >= 0 for count in counts) and self._is_there(
            shard.name, FileFacts(bytes=shard.bytes, sha256=shard.sha256)
        )

    def _is_there(self, name: str, facts: FileFacts) -> bool:
        path = self._folder / name
        try:
            return not path.is_symlink() and file_facts(path) == facts
        except OSError:
            return False
