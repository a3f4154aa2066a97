import errno
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemmazero.config import ModelConfig
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import load_model, save_model
from tiny_run import MODEL, make_model

TOKENIZER = make_tokenizer("bytes", list, turn_tokens=True)
CONFIG = MODEL.with_vocabulary(TOKENIZER.vocab_size, TOKENIZER.end_id)
SHAPES = {
    "gemma3": CONFIG,
    "gemma3 untied": replace(CONFIG, tie_word_embeddings=False, rope_scaling_factor=8.0),
    "gemma2": replace(CONFIG, model_type="gemma2", attn_logit_softcapping=50.0, rope_theta=10_000.0),
}
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def saved(folder: Path, config: ModelConfig = CONFIG, **options: Any) -> Gemma:
    """A random model, saved in ``folder``."""
    model = make_model(config=config)
    folder.mkdir(exist_ok=True)
    save_model(model, TOKENIZER, folder, **options)
    return model


def load(folder: Path) -> Gemma:
    return load_model(folder, device="cpu", dtype=torch.float32)


def edit_weights(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Replace tensors of the stored model, or remove them (None)."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def edit_config(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | changes))


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
    with pytest.raises(CheckpointError, match="the tokenizer has 259 ids, the model embeds 257"):
        save_model(make_model(), TOKENIZER, tmp_path)
    assert not list(tmp_path.iterdir())


def test_padded_embeddings_are_kept(tmp_path: Path) -> None:
    model = saved(tmp_path, replace(CONFIG, vocab_size=320))
    assert_equal_weights(load(tmp_path), model)


def test_loaded_weights_outlive_their_file(tmp_path: Path) -> None:
    model = saved(tmp_path)
    loaded = load(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.write(bytes((tmp_path / "model.safetensors").stat().st_size))
    assert_equal_weights(loaded, model)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: a full disk, for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_takes_no_more_is_an_os_error_with_its_number(tmp_path: Path) -> None:
    with largest_file(4096), pytest.raises(OSError, match="too large") as raised:
        saved(tmp_path)
    assert raised.value.errno == errno.EFBIG


# ---- folders that transformers wrote


def transformers_model(config: ModelConfig) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config.to_json()), attn_implementation="eager"
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    return model.eval()


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


# ---- folders that are not what they say


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


def test_tokenizer_is_saved_with_the_model(tmp_path: Path) -> None:
    saved(tmp_path)
    assert Tokenizer.load(tmp_path).digest == TOKENIZER.digest
