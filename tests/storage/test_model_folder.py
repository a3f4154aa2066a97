import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saved_model import CONFIG, EMBEDDING, NORM, SHAPES, TOKENIZER, edit_weights, load, saved, transformers_model
from torch import Tensor

from full_disk import no_file_larger_than
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import load_model, save_model
from tiny_run import make_model


def assert_equal_weights(one: Gemma, other: Gemma) -> None:
    weights = one.state_dict()
    assert set(weights) == set(other.state_dict())
    for name, weight in other.state_dict().items():
        assert torch.equal(weights[name], weight), name


@pytest.mark.parametrize("shape", SHAPES)
def test_loading_inverts_saving(shape: str, tmp_path: Path) -> None:
    model = saved(tmp_path, SHAPES[shape])
    loaded = load(tmp_path)
    assert loaded.config == model.config
    assert_equal_weights(loaded, model)
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_loads_what_was_saved(shape: str, tmp_path: Path) -> None:
    model = saved(tmp_path, SHAPES[shape])
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Once upon a time there was a naïve 🐙."
    ids = TOKENIZER.encode(text)
    assert tokenizer.encode(text) == ids
    assert twin.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(twin(torch.tensor([ids])).logits, model(torch.tensor([ids])), rtol=1e-5, atol=1e-5)


def test_model_is_loaded_without_torchs_compiler(tmp_path: Path) -> None:
    saved(tmp_path)
    program = (
        "import sys, torch; from pathlib import Path; from gemmazero.storage.model_folder import load_model; "
        "load_model(Path(sys.argv[1]), device='cpu', dtype=torch.float32); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode == 0


def test_equal_models_write_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        saved(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_tied_head_is_not_stored_and_the_file_says_pytorch(tmp_path: Path) -> None:
    saved(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as weights:
        assert set(weights.keys()) == {name for name, _ in Gemma(CONFIG).named_parameters()}
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118 - it is no mapping
        assert weights.metadata() == {"format": "pt"}


def test_weights_may_be_read_by_whoever_reads_the_config(tmp_path: Path) -> None:
    saved(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
def test_narrow_weights_are_those_rounded_once(dtype: torch.dtype, name: str, tmp_path: Path) -> None:
    model = saved(tmp_path, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(stored[key], weight.to(dtype)) for key, weight in model.state_dict().items())
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == (name, name)
    loaded = load_model(tmp_path, device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert load(tmp_path).model.norm.weight.dtype == torch.float32


def test_weight_beyond_fp16_is_refused(tmp_path: Path) -> None:
    model = make_model(config=CONFIG)
    model.model.norm.weight.data[3] = 1e5
    with pytest.raises(CheckpointError, match=f'"{NORM}" is too large for fp16'):
        save_model(model, TOKENIZER, tmp_path, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def generation(folder: Path) -> Any:
    return json.loads((folder / "generation_config.json").read_text())


def test_generation_stops_at_the_end_of_a_document_and_of_a_turn(tmp_path: Path) -> None:
    saved(tmp_path)
    end, turn_end = TOKENIZER.end_id, TOKENIZER.token(258)
    assert turn_end == "<end_of_turn>"
    assert generation(tmp_path) == {"bos_token_id": end, "eos_token_id": [end, 258], "pad_token_id": end}
    assert transformers.GenerationConfig.from_pretrained(tmp_path).eos_token_id == [end, 258]


def test_generation_stops_where_the_config_says(tmp_path: Path) -> None:
    saved(tmp_path, replace(CONFIG, eos_token_id=(1, 258), pad_token_id=0))
    assert generation(tmp_path)["eos_token_id"] == [1, 258]
    assert generation(tmp_path)["pad_token_id"] == 0


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer gives 259 ids, the model embeds 257"):
        save_model(make_model(), TOKENIZER, tmp_path)
    assert not list(tmp_path.iterdir())


def test_special_token_for_images_needs_no_embedding(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    spelled = json.loads((tmp_path / "tokenizer.json").read_text())
    image = spelled["added_tokens"][-1] | {"id": TOKENIZER.vocab_size, "content": "<image_soft_token>"}
    spelled["added_tokens"].append(image)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spelled))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.vocab_size, tokenizer.needed_embeddings) == (TOKENIZER.vocab_size + 1, TOKENIZER.vocab_size)
    save_model(make_model(config=CONFIG), tokenizer, tmp_path)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).encode("<image_soft_token>") == [TOKENIZER.vocab_size]


def test_padded_embeddings_are_kept(tmp_path: Path) -> None:
    model = saved(tmp_path, replace(CONFIG, vocab_size=320))
    assert_equal_weights(load(tmp_path), model)


def test_loaded_weights_outlive_their_file(tmp_path: Path) -> None:
    model = saved(tmp_path)
    loaded = load(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.write(bytes((tmp_path / "model.safetensors").stat().st_size))
    assert_equal_weights(loaded, model)


def test_disk_that_takes_no_more_is_an_os_error_with_its_number(tmp_path: Path) -> None:
    with no_file_larger_than(4096), pytest.raises(OSError, match="too large") as raised:
        saved(tmp_path)
    assert raised.value.errno == errno.EFBIG


# ---- folders that transformers wrote


def assert_same_logits(model: Gemma, logits: Tensor, ids: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(ids), logits, rtol=1e-5, atol=3e-5)


IDS = torch.randint(CONFIG.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
def test_transformers_folder_is_loaded(shape: str, shard_size: str, tmp_path: Path) -> None:
    theirs = transformers_model(SHAPES[shape])
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "30KB")
    with torch.no_grad():
        assert_same_logits(load(tmp_path), theirs(IDS).logits, IDS)


@pytest.mark.parametrize("spelling", ["as saved", "in memory"])
def test_text_part_of_a_multimodal_folder_is_loaded(spelling: str, tmp_path: Path) -> None:
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    text = replace(CONFIG, final_logit_softcapping=None)
    config = transformers.Gemma3Config(text_config=text.to_json(), vision_config=vision, mm_tokens_per_image=4)
    theirs = transformers.Gemma3ForConditionalGeneration(config).eval()
    theirs.set_attn_implementation("eager")
    theirs.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any("vision_tower" in name for name in stored)
    if spelling == "in memory":
        stored = {name.replace("language_model.model.", "model.language_model."): stored[name] for name in stored}
    else:
        stored["language_model.lm_head.weight"] = stored[f"language_model.{EMBEDDING}"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert_same_logits(load(tmp_path), theirs(IDS).logits, IDS)


def test_tied_model_may_store_its_head_if_it_is_the_embedding(tmp_path: Path) -> None:
    model = saved(tmp_path)
    edit_weights(tmp_path, {"lm_head.weight": model.model.embed_tokens.weight.detach().clone()})
    assert_equal_weights(load(tmp_path), model)


def test_tied_model_with_another_head_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path)
    edit_weights(tmp_path, {"lm_head.weight": model.model.embed_tokens.weight.detach() + 1e-6})
    with pytest.raises(CheckpointError, match="is another matrix"):
        load(tmp_path)


def test_tokenizer_is_saved_with_the_model(tmp_path: Path) -> None:
    saved(tmp_path)
    assert Tokenizer.load(tmp_path).digest == TOKENIZER.digest
