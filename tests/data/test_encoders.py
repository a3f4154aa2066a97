import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gemmazero.data import encoders as encoders_file
from gemmazero.data.encoders import Encoders
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.data.vocabulary import END_OF_DOCUMENT
from gemmazero.errors import DataError

END = END_OF_DOCUMENT
STRANGE = ["", "plain", "a b  c\n", "é😀 \x00", END, f"x{END}y", "<start_of_turn>", "long " * 5000]
BLOCKS = [(number, [[f"{number} {text}" for text in STRANGE[number % 8 :]], STRANGE[:number]]) for number in range(20)]
BLOCKS[15] = (15, [[], []])  # which nobody needs to encode


@pytest.fixture(scope="module", params=["bytes", "bpe:300"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make_tokenizer(request.param, lambda: [" ".join(map(str, range(999)))], turn_tokens=True)


def encoded(encode: Any, processes: int, blocks: Any = BLOCKS) -> list[tuple[int, list[list[int]]]]:
    with Encoders(encode, processes, alone=0) as encoders:
        return [(item, [ids.tolist() for ids in parts]) for item, parts in encoders.encoded(blocks)]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_ids_are_those_of_each_document_alone_in_order(processes: int, tokenizer: Tokenizer) -> None:
    assert encoded(tokenizer.documents_encoder, processes) == [
        (item, [[id_ for text in part for id_ in (*tokenizer.encode(text), tokenizer.end_id)] for part in parts])
        for item, parts in BLOCKS
    ]


def test_few_blocks_are_read_ahead() -> None:
    read = 0

    def blocks() -> Any:
        nonlocal read
        for read in range(1, 101):
            yield read, [[str(read)]]

    with Encoders(lengths, 2, alone=0) as encoders:
        for item, parts in encoders.encoded(blocks()):
            assert read <= item + 2 * 3 + 1
            assert parts[0].tolist() == [len(str(item))]
    assert read == 100


def test_long_documents_are_not_held_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders_file, "_CHARACTERS_AHEAD", 250)
    read = 0

    def blocks() -> Any:
        nonlocal read
        for read in range(1, 31):
            yield read, [["x" * 100]]

    with Encoders(lengths, 2, alone=0) as encoders:
        for item, _ in encoders.encoded(blocks()):
            assert read <= item + 2
    assert read == 30


@pytest.mark.parametrize(("characters", "processes"), [(99, 0), (1000, 2)])
def test_processes_are_started_for_a_long_text_alone(characters: int, processes: int) -> None:
    blocks = ((number, [["x"]]) for number in range(characters))
    before = set(children_of(os.getpid()))  # other tests may have some
    with Encoders(lengths, 2, alone=100) as encoders:
        for _ in encoders.encoded(blocks):
            pass
        assert len(set(children_of(os.getpid())) - before) == processes


def lengths(texts: Sequence[str]) -> NDArray[Any]:
    return np.array([len(text) for text in texts])


def refuse(texts: Sequence[str]) -> NDArray[Any]:
    if "bad" in texts:
        raise DataError("no such text", "leave it out")
    return lengths(texts)


@pytest.mark.parametrize("processes", [1, 2])
def test_error_of_a_process_is_raised_here(processes: int) -> None:
    blocks = [(number, [["good"]]) for number in range(11)] + [(99, [["bad"]])]
    with pytest.raises(DataError, match="no such text") as error:
        encoded(refuse, processes, blocks)
    assert error.value.hint == "leave it out"


def die(texts: Sequence[str], here: int) -> NDArray[Any]:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return lengths(texts)


def test_process_that_dies_is_an_error_with_a_hint() -> None:
    with pytest.raises(DataError, match="has ended before its work") as error:
        encoded(partial(die, here=os.getpid()), 2, [(number, [["x"]]) for number in range(99)])
    assert "--workers 1" in error.value.hint


SCRIPT = """
import sys, time
from gemmazero.data import encoders as encoders_file
from gemmazero.data.encoders import Encoders
from data.test_encoders import lengths, children_of
import os

with Encoders(lengths, 2, alone=0) as encoders:  # and no guard against being imported
    for item, _ in encoders.encoded((number, [["x"]]) for number in range(10**9)):
        if item == 30:
            print(*children_of(os.getpid()), flush=True)
            if sys.argv[1] == "ends":
                break
print("left", flush=True)
time.sleep(600)
"""


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are told by /proc")
@pytest.mark.parametrize("how", ["ends", "killed"])
def test_no_process_outlives_its_work_or_who_started_it(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, script, how], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        children = [int(child) for child in process.stdout.readline().split()]
        assert len(children) == 2
        if how == "killed":
            process.kill()
        else:
            assert process.stdout.readline() == "left\n"
        end = time.monotonic() + 60
        while any(map(is_alive, children)):
            assert time.monotonic() < end, "they run on"
            time.sleep(0.01)
        process.kill()
