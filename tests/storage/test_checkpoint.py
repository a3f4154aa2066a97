import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from full_disk import no_file_larger_than
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, GemmaZeroError
from gemmazero.storage.checkpoint import Checkpoint, TrainingState, list_checkpoints, save_checkpoint
from gemmazero.storage.model_folder import load_model, save_model
from gemmazero.training.trainer import Trainer
from tiny_run import make_model, make_trainer

MODEL_FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
TRAINING_FILES = {
    "training/optimizer.safetensors", "training/random.safetensors", "training/state.json", "training/history.jsonl",
}  # fmt: skip
HISTORY = '{"event": "stepped", "step": 1}\n'


@pytest.fixture(scope="session")
def trainer(tiny_data: Path) -> Trainer:
    """One step done, in fp16, so that there is a scaler."""
    trainer = make_trainer(tiny_data, precision="fp16", optimizer="adamw8bit")
    trainer.apply(trainer.attempt())
    return trainer


@pytest.fixture(scope="session")
def state(trainer: Trainer) -> TrainingState:
    return TrainingState(**trainer.state_dict(), history=HISTORY)


@pytest.fixture(scope="session")
def save(trainer: Trainer, state: TrainingState, tiny_data: Path) -> Callable[..., Checkpoint]:
    """Saves step 7 under the folder it is given."""
    write_model = partial(save_model, trainer.model, Tokenizer.load(tiny_data))
    return partial(save_checkpoint, step=7, run_id="a1b2", write_model=write_model, state=state)


@pytest.fixture(scope="session")
def saved(save: Callable[..., Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("run"))


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_layout_is_that_of_the_contract(saved: Checkpoint) -> None:
    assert saved.folder.name == "step-00000007"
    assert files_in(saved.folder) == MODEL_FILES | TRAINING_FILES | {"checkpoint.json"}
    assert not [path for path in saved.folder.rglob("*") if path.suffix in (".pt", ".bin", ".pkl", ".pth")]


def test_manifest_lists_two_groups_with_sizes_and_sha256(saved: Checkpoint) -> None:
    manifest = json.loads((saved.folder / "checkpoint.json").read_text())
    assert {manifest["format_version"], manifest["run_id"], manifest["step"]} == {1, "a1b2", 7}
    assert set(manifest["files"]) == {"model", "training"}
    assert set(manifest["files"]["model"]) == MODEL_FILES
    assert set(manifest["files"]["training"]) == TRAINING_FILES
    for name, entry in (manifest["files"]["model"] | manifest["files"]["training"]).items():
        content = (saved.folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_every_file_has_the_same_rights(saved: Checkpoint) -> None:
    assert len({path.stat().st_mode for path in saved.folder.rglob("*") if path.is_file()}) == 1


def test_state_comes_back_to_the_bit(saved: Checkpoint, state: TrainingState) -> None:
    read = Checkpoint.open(saved.folder).training_state()
    assert read.record == state.record
    assert read.record["scaler"]["scale"] == 65536.0
    assert read.history == HISTORY
    assert {group: set(tensors) for group, tensors in read.tensors.items()} == {
        group: set(tensors) for group, tensors in state.tensors.items()
    }
    for group, tensors in state.tensors.items():
        for name, tensor in tensors.items():
            assert read.tensors[group][name].dtype == tensor.dtype
            assert torch.equal(read.tensors[group][name], tensor), name


def test_random_state_comes_back(saved: Checkpoint, state: TrainingState) -> None:
    torch.set_rng_state(state.tensors["random"]["cpu"])
    expected = torch.randn(5)
    torch.manual_seed(0)
    torch.set_rng_state(saved.training_state().tensors["random"]["cpu"])
    assert torch.equal(torch.randn(5), expected)


def test_stock_transformers_loads_a_checkpoint_and_gives_our_logits(saved: Checkpoint, trainer: Trainer) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(saved.folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved.folder)
    ids = tokenizer("A fox ran. Ein Füchslein!", return_tensors="pt").input_ids
    assert ids[0].tolist() == Tokenizer.load(saved.folder).encode("A fox ran. Ein Füchslein!")
    trainer.model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(trainer.model(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_untouched_checkpoint_is_verified(saved: Checkpoint) -> None:
    Checkpoint.open(saved.folder).verify()


@pytest.mark.parametrize("name", sorted(MODEL_FILES | TRAINING_FILES))
def test_verify_tells_each_file_that_is_cut_changed_or_gone(saved: Checkpoint, name: str, tmp_path: Path) -> None:
    copy = Checkpoint.open(shutil.copytree(saved.folder, tmp_path / saved.folder.name))
    file = copy.folder / name
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", bytes(flipped), whole + b"\n"):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f'damaged: "{name}" is not what was written'):
            copy.verify()
    file.unlink()
    with pytest.raises(CheckpointError, match=f'damaged: "{name}" is missing'):
        copy.verify()
    file.write_bytes(whole)
    copy.verify()


@pytest.mark.parametrize("name", ["more.txt", "training/more.safetensors"])
def test_verify_tells_a_file_that_does_not_belong(saved: Checkpoint, name: str, tmp_path: Path) -> None:
    copy = Checkpoint.open(shutil.copytree(saved.folder, tmp_path / saved.folder.name))
    (copy.folder / name).write_text("")
    with pytest.raises(CheckpointError, match=f'damaged: "{name}" does not belong'):
        copy.verify()


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{", '{"format_version": 2}', '{"format_version": 1}', '{"format_version": 1, "files": {"model": 3}}'],
)
def test_folder_without_a_usable_manifest_is_no_checkpoint(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text(manifest)
    with pytest.raises(CheckpointError):
        Checkpoint.open(tmp_path)
    (tmp_path / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        Checkpoint.open(tmp_path)


def test_every_bit_of_the_manifest_is_guarded(saved: Checkpoint, tmp_path: Path) -> None:
    copy = shutil.copytree(saved.folder, tmp_path / saved.folder.name)
    manifest = copy / "checkpoint.json"
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        manifest.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            Checkpoint.open(copy)


def sealed(manifest: dict[str, Any]) -> str:
    """A manifest with the right sum, as somebody who means harm would write it."""
    bare = {key: value for key, value in manifest.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(bare).encode()).hexdigest()
    return json.dumps({**bare, "sha256": digest}, indent=1) + "\n"


@pytest.mark.parametrize(
    "change",
    [
        {"step": 8}, {"step": "7"}, {"step": None}, {"run_id": 3}, {"files": []}, {"files": {"model": {}}},
        {"files": {"model": [], "training": {}}}, {"files": {"model": {"x": 3}, "training": {}}},
        {"files": {"model": {"x": {"size": 1.5, "sha256": "a"}}, "training": {}}},
        {"files": {"model": {"../other": {"size": 1, "sha256": "a"}}, "training": {}}},
        {"files": {"model": {"/etc/passwd": {"size": 1, "sha256": "a"}}, "training": {}}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_sealed_manifest_that_lies_is_not_believed(saved: Checkpoint, change: dict[str, Any], tmp_path: Path) -> None:
    copy = shutil.copytree(saved.folder, tmp_path / saved.folder.name)
    manifest = json.loads((copy / "checkpoint.json").read_text())
    (copy / "checkpoint.json").write_text(sealed(manifest))
    Checkpoint.open(copy).verify()
    (copy / "checkpoint.json").write_text(sealed(manifest | change))
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoint.open(copy).verify()


def test_links_are_never_followed(saved: Checkpoint, tmp_path: Path) -> None:
    copy = Checkpoint.open(shutil.copytree(saved.folder, tmp_path / saved.folder.name))
    for name in ("config.json", "training"):
        (copy.folder / name).rename(tmp_path / name)
        (copy.folder / name).symlink_to(tmp_path / name)
        with pytest.raises(CheckpointError, match=f'"{name}" is no plain file'):
            copy.verify()
        (copy.folder / name).unlink()
        (tmp_path / name).rename(copy.folder / name)
    copy.verify()
    os.mkfifo(copy.folder / "pipe")
    with pytest.raises(CheckpointError, match='"pipe" is no plain file'):
        copy.verify(training=False)


def test_model_alone_is_verified_alone(saved: Checkpoint, tmp_path: Path) -> None:
    copy = Checkpoint.open(shutil.copytree(saved.folder, tmp_path / saved.folder.name))
    shutil.rmtree(copy.folder / "training")
    (copy.folder / "README.md").write_text("mine")
    copy.verify(training=False)
    (copy.folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r'"tokenizer\.json" is missing'):
        copy.verify(training=False)


def test_checkpoint_of_the_same_step_stays_until_its_successor_is_verified(
    saved: Checkpoint, save: Callable[..., Checkpoint], state: TrainingState, tmp_path: Path
) -> None:
    """A disk that loses what it was given: the file changes after it was summed."""
    older = shutil.copytree(saved.folder, tmp_path / saved.folder.name)

    class Losing(dict[str, Any]):
        def items(self) -> Any:  # read when state.json is written, after the model was
            (tmp_path / ".step-00000007.writing" / "model.safetensors").write_bytes(b"lost")
            return super().items()

    with pytest.raises(CheckpointError, match="is not what was written"):
        save(tmp_path, state=replace(state, record=Losing(state.record)))
    assert list(tmp_path.iterdir()) == [older]
    Checkpoint.open(older).verify()


def test_saving_a_step_again_replaces_it(save: Callable[..., Checkpoint], tmp_path: Path) -> None:
    first = save(tmp_path)
    (first.folder / "config.json").write_text("{}")
    save(tmp_path).verify()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007"]


def test_equal_states_give_equal_bytes(saved: Checkpoint, save: Callable[..., Checkpoint], tmp_path: Path) -> None:
    again = save(tmp_path)
    for name in files_in(saved.folder):
        assert (again.folder / name).read_bytes() == (saved.folder / name).read_bytes(), name


@pytest.mark.parametrize("large", ["model.safetensors", "training/optimizer.safetensors", "training/state.json"])
def test_disk_that_fills_up_leaves_the_older_checkpoint_and_nothing_else(
    large: str, saved: Checkpoint, save: Callable[..., Checkpoint], state: TrainingState, tmp_path: Path
) -> None:
    older = shutil.copytree(saved.folder, tmp_path / saved.folder.name)
    sizes = {name: entry["size"] for group in saved.files.values() for name, entry in group.items()}
    limit = max(sizes.values())  # each of the two others fits
    if large == "model.safetensors":
        limit = sizes[large] - 1
    elif large == "training/optimizer.safetensors":
        padding = {"padding": torch.zeros(limit, dtype=torch.uint8)}
        state = replace(state, tensors={**state.tensors, "optimizer": padding})
    else:
        state = replace(state, record={**state.record, "padding": "x" * limit})
    with no_file_larger_than(limit), pytest.raises(GemmaZeroError, match="cannot write"):
        save(tmp_path, step=8, state=state)
    assert list(tmp_path.iterdir()) == [older]
    Checkpoint.open(older).verify()


def test_full_disk_is_told_as_such(save: Callable[..., Checkpoint], tmp_path: Path) -> None:
    def write_model(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with pytest.raises(GemmaZeroError, match="the disk is full"):
        save(tmp_path, write_model=write_model)
    assert list(tmp_path.iterdir()) == []


def make_folders(parent: Path, *steps: int) -> None:
    for step in steps:
        (parent / f"step-{step:08d}").mkdir(parents=True)


def test_checkpoints_are_listed_by_step_and_nothing_else_is(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "absent") == []
    make_folders(tmp_path, 30, 4, 200_000_000, 5)
    for name in (".step-00000009.writing", "step-9", "step-00000006.old", "best"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-00000004", "step-00000005", "step-00000030", "step-200000000",
    ]  # fmt: skip


def test_weights_of_a_checkpoint_are_those_of_the_model(saved: Checkpoint, trainer: Trainer) -> None:
    loaded = load_model(saved.folder, device="cpu", dtype=torch.float32)
    assert loaded.config == trainer.model.config
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert not torch.equal(loaded.output_weight, make_model().output_weight)
