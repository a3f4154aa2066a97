import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_model import CONFIG, NORM, SHAPES, edit_config, edit_weights, load, saved, transformers_model

from gemmazero.errors import CheckpointError, ConfigError


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as raised:
        load(folder)
    assert raised.value.hint
    return raised.value


def test_all_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    saved(tmp_path)
    up, down = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("up", "down"))
    edit_weights(
        tmp_path,
        {
            NORM: None,
            "model.layers.2.extra.weight": torch.zeros(3),
            up: torch.zeros(128, 31),
            down: torch.zeros(32, 128, dtype=torch.int8),
        },
    )
    message = refusal(tmp_path).message
    assert f"1 missing ({NORM})" in message
    assert "1 unknown (model.layers.2.extra.weight)" in message
    assert f"1 of the wrong shape ({up} [128, 31] instead of [128, 32])" in message
    assert f"1 not of floating point ({down} I8)" in message


def test_long_list_of_what_is_missing_is_shortened(tmp_path: Path) -> None:
    saved(tmp_path)
    edit_config(tmp_path, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    assert "13 missing (model.layers.2.input_layernorm.weight, " in refusal(tmp_path).message
    assert ", and 9 more)" in refusal(tmp_path).message


def test_untied_model_without_its_head_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    edit_config(tmp_path, tie_word_embeddings=False)
    assert "1 missing (lm_head.weight)" in refusal(tmp_path).message


def test_gemma2_is_not_loaded_as_gemma3(tmp_path: Path) -> None:
    saved(tmp_path, SHAPES["gemma2"])
    edit_config(tmp_path, model_type="gemma3_text", attn_logit_softcapping=None, rope_parameters=None)
    assert "4 missing (model.layers.0.self_attn.q_norm.weight" in refusal(tmp_path).message


def test_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    edit_weights(tmp_path, {f"language_model.{NORM}": torch.zeros(32)})
    assert f'holds the tensor "{NORM}" twice' in refusal(tmp_path).message


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_truncated_weights_are_damaged(size: int, tmp_path: Path) -> None:
    saved(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert f'"{weights}" is damaged' in refusal(tmp_path).message


def test_folder_without_a_config_holds_no_model(tmp_path: Path) -> None:
    assert "config.json is missing" in refusal(tmp_path / "nowhere").message
    saved(tmp_path)
    (tmp_path / "config.json").unlink()
    assert f'no model in "{tmp_path}"' in refusal(tmp_path).message


def test_config_of_another_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    edit_config(tmp_path, model_type="llama")
    with pytest.raises(ConfigError, match="llama"):
        load(tmp_path)


def test_folder_without_weights_says_so(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "no weights" in refusal(tmp_path).message


def test_pickle_is_never_opened(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    error = refusal(tmp_path)
    assert "are a pickle" in error.message
    assert "save_pretrained" in error.hint


def write_index(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors.index.json").write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/model.safetensors", "sub/x.safetensors", "..", "x.bin", 7]
)
def test_shard_outside_the_folder_is_refused(shard: Any, tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model.safetensors")
    write_index(tmp_path / "model", {"weight_map": {NORM: shard}})
    assert f'names the shard "{shard}"' in refusal(tmp_path / "model").message


@pytest.mark.parametrize("content", ["", "[]", "{}", {"weight_map": []}, {"weight_map": {}}])
def test_index_without_a_map_is_refused(content: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    write_index(tmp_path, content)
    assert "model.safetensors.index.json" in refusal(tmp_path).message


def test_missing_shard_is_named(tmp_path: Path) -> None:
    transformers_model(CONFIG).save_pretrained(tmp_path, max_shard_size="30KB")
    shard = sorted(tmp_path.glob("model-0*.safetensors"))[1]
    shard.unlink()
    assert refusal(tmp_path).message == f'"{shard}" is missing'


def test_more_layers_than_tensors_are_refused_before_a_model_is_made(tmp_path: Path) -> None:
    saved(tmp_path)
    edit_config(tmp_path, num_hidden_layers=900, layer_types=["full_attention"] * 900)
    assert "tensors, its config.json tells of 900 layers" in refusal(tmp_path).message


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "head_dim"])
def test_sizes_that_the_weights_do_not_have_take_no_memory(tmp_path: Path, key: str) -> None:
    saved(tmp_path)
    edit_config(tmp_path, **{key: 2**24})
    assert "of the wrong shape" in refusal(tmp_path).message


def test_weights_and_config_may_be_links_as_in_the_hub_s_cache(tmp_path: Path) -> None:
    saved(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert load(tmp_path / "snapshot").config == load(tmp_path / "blobs").config


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_pipe_is_no_part_of_a_model(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    assert name in refusal(tmp_path).message
