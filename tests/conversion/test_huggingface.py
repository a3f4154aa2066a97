import json
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from gemmazero.config import ModelConfig
from gemmazero.conversion import huggingface
from gemmazero.conversion.huggingface import convert
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import CheckpointError, DataError
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import load_model, save_model
from tiny_run import MODEL, make_model

TOKENIZER = make_tokenizer("bytes", list, turn_tokens=True)
CONFIG = MODEL.with_vocabulary(TOKENIZER.vocab_size, TOKENIZER.end_id)
SHAPES = {
    "gemma3": CONFIG,
    "gemma3 untied, scaled": replace(CONFIG, tie_word_embeddings=False, rope_scaling_factor=8.0),
    "gemma2": replace(CONFIG, model_type="gemma2", attn_logit_softcapping=50.0, rope_theta=10_000.0),
}
IDS = torch.randint(CONFIG.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))


def saved(folder: Path, config: ModelConfig = CONFIG, tokenizer: Tokenizer = TOKENIZER) -> Gemma:
    model = make_model(config=config)
    folder.mkdir()
    save_model(model, tokenizer, folder)
    return model


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("shape", SHAPES)
def test_stock_transformers_continues_a_converted_model_as_we_do(shape: str, tmp_path: Path) -> None:
    model = saved(tmp_path / "source", SHAPES[shape])
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert verdict.ok
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager")
    prompt = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("Once upon", return_tensors="pt").input_ids
    theirs = twin.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None)
    ours = prompt
    with torch.no_grad():
        for _ in range(20):
            ours = torch.cat((ours, model(ours)[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("to", ["huggingface", "gemmazero"])
def test_verdict_compares_with_transformers_past_the_window(shape: str, to: Any, tmp_path: Path) -> None:
    saved(tmp_path / "source", SHAPES[shape])
    verdict = convert(tmp_path / "source", tmp_path / "out", to=to)
    assert verdict.ok
    assert (verdict.folder, verdict.to, verdict.dtype) == (tmp_path / "out", to, "fp32")
    assert f"OUT read by transformers {transformers.__version__}" in verdict.logits_compared
    assert f"OUT read by transformers {transformers.__version__}" in verdict.tokenizers_compared
    assert (verdict.sequences, verdict.sequence_length, verdict.longer_than_window) == (2, 37, True)  # the window is 5
    assert 0 < verdict.largest_logit_difference <= verdict.logit_tolerance < 1e-3
    assert verdict.largest_rounding_difference == 0.0
    assert (verdict.mismatched_texts, verdict.trimmed_embeddings) == (0, 0)
    assert verdict.texts > 200
    assert json.loads(json.dumps(verdict.to_json()))["ok"] is True


def test_verdict_says_where_it_does_not_reach_past_the_window(tmp_path: Path) -> None:
    saved(tmp_path / "source", replace(CONFIG, sliding_window=64))
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert (verdict.sequence_length, verdict.longer_than_window) == (64, False)  # the context is 64


def test_verdict_without_transformers_says_that_nothing_independent_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "source")
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    verdict = convert(tmp_path / "source", tmp_path / "out", dtype="bf16")
    assert verdict.ok
    for compared in (verdict.logits_compared, verdict.tokenizers_compared):
        assert "transformers is not installed, so nothing independent was compared" in compared
    assert verdict.largest_logit_difference == 0.0


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_narrow_weights_are_the_source_rounded_and_the_verdict_says_what_that_moved(
    dtype: Any, torch_dtype: torch.dtype, tmp_path: Path
) -> None:
    model = saved(tmp_path / "source")
    verdict = convert(tmp_path / "source", tmp_path / "out", dtype=dtype)
    assert verdict.ok
    assert f"its weights rounded to {dtype}" in verdict.logits_compared
    assert verdict.largest_rounding_difference > 10 * verdict.logit_tolerance
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written[name], weight.to(torch_dtype)) for name, weight in model.state_dict().items())


def test_model_survives_the_way_there_and_back(tmp_path: Path) -> None:
    saved(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "there")
    convert(tmp_path / "there", tmp_path / "back", to="gemmazero")
    assert contents(tmp_path / "back") == contents(tmp_path / "source")


def test_sharded_transformers_folder_becomes_one_file_of_ours(tmp_path: Path) -> None:
    theirs = transformers.Gemma2ForCausalLM(transformers.Gemma2Config.from_dict(SHAPES["gemma2"].to_json())).eval()
    theirs.set_attn_implementation("eager")
    theirs.save_pretrained(tmp_path / "source", max_shard_size="30KB")
    TOKENIZER.save(tmp_path / "source")
    assert convert(tmp_path / "source", tmp_path / "out", to="gemmazero").ok
    ours = load_model(tmp_path / "out", device="cpu", dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=1e-5, atol=1e-5)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_without_a_token_are_left_out(tied: bool, tmp_path: Path) -> None:
    model = saved(tmp_path / "source", replace(CONFIG, vocab_size=320, pad_token_id=319, tie_word_embeddings=tied))
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert verdict.ok
    assert verdict.trimmed_embeddings == 320 - 259
    trimmed = load_model(tmp_path / "out", device="cpu", dtype=torch.float32)
    assert (trimmed.config.vocab_size, trimmed.config.pad_token_id) == (259, None)
    assert torch.equal(trimmed.output_weight, model.output_weight[:259])
    with torch.no_grad():  # a product of fewer columns may round otherwise
        torch.testing.assert_close(trimmed(IDS), model(IDS)[..., :259], rtol=1e-5, atol=1e-5)


# ---- what the verdict would notice


def test_model_that_transformers_computes_otherwise_is_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "source")
    from transformers.models.gemma3 import modeling_gemma3

    monkeypatch.setitem(modeling_gemma3.ACT2FN, "gelu_pytorch_tanh", nn.GELU)  # the exact one, 5e-4 away
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert not verdict.ok
    assert verdict.largest_logit_difference > verdict.logit_tolerance
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_other_choice_of_the_next_token_than_a_clear_best_is_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved(tmp_path / "source", replace(CONFIG, final_logit_softcapping=None, tie_word_embeddings=False))
    ids = huggingface._probe(model)
    top = model(ids)[0, 0].detach().topk(2)
    real = huggingface._transformers_logits

    def swapped(folder: Path, ids: Tensor) -> Tensor:
        logits = real(folder, ids).clone()
        logits[0, 0, top.indices[0]] = top.values[1] - 1e-4  # no longer the best
        return logits

    monkeypatch.setattr(huggingface, "_transformers_logits", swapped)
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert (verdict.next_tokens, verdict.different_next_tokens, verdict.wrong_next_tokens) == (74, 1, 1)
    assert not verdict.ok


def test_broken_transformers_is_told_and_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "source")
    hollow = ModuleType("transformers")
    hollow.__spec__ = ModuleSpec("transformers", None)
    monkeypatch.setitem(sys.modules, "transformers", hollow)
    with pytest.raises(CheckpointError, match="transformers is installed, but cannot be imported") as raised:
        convert(tmp_path / "source", tmp_path / "out")
    assert "gemmazero[verify]" in raised.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_tokenizer_that_transformers_reads_otherwise_is_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "source")
    other = make_tokenizer("bpe:270", lambda: ["the cat sat on the mat and the hat"] * 9, turn_tokens=False)
    (tmp_path / "other").mkdir()
    other.save(tmp_path / "other")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "other")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: theirs)
    verdict = convert(tmp_path / "source", tmp_path / "out")
    assert not verdict.ok
    assert 0 < verdict.mismatched_texts <= verdict.texts


def test_folder_that_transformers_cannot_read_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "source")

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such architecture")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(CheckpointError, match="transformers cannot read the written folder: no such architecture"):
        convert(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_transformers_talks_as_much_afterwards_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "source")
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    convert(tmp_path / "source", tmp_path / "out")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


# ---- where OUT may be


def test_taken_folder_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path / "source")
    saved(tmp_path / "out", replace(CONFIG, num_hidden_layers=1, layer_types=("full_attention",)))
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="exists already") as raised:
        convert(tmp_path / "source", tmp_path / "out")
    assert "--overwrite" in raised.value.hint
    assert contents(tmp_path) == before


def test_overwritten_model_is_replaced_whole(tmp_path: Path) -> None:
    saved(tmp_path / "source")
    saved(tmp_path / "out", replace(CONFIG, num_hidden_layers=1, layer_types=("full_attention",)))
    (tmp_path / "out" / "model-00001-of-00002.safetensors").touch()
    assert convert(tmp_path / "source", tmp_path / "out", overwrite=True).ok
    assert contents(tmp_path / "out") == contents(tmp_path / "source")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


@pytest.mark.parametrize(
    "name", ["thesis.txt", "models/int8.safetensors", "model-lora.safetensors", "training/state.json"]
)
def test_nothing_of_somebody_elses_is_removed_with_a_model_that_is_overwritten(name: str, tmp_path: Path) -> None:
    saved(tmp_path / "source")
    saved(tmp_path / "out")
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).touch()
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=f'it holds "{Path(name).parts[0]}"'):
        convert(tmp_path / "source", tmp_path / "out", overwrite=True)
    assert contents(tmp_path) == before


def test_empty_folder_may_be_overwritten(tmp_path: Path) -> None:
    saved(tmp_path / "source")
    (tmp_path / "out").mkdir()
    assert convert(tmp_path / "source", tmp_path / "out", overwrite=True).ok


def damage_weights(source: Path) -> None:
    (source / "model.safetensors").write_bytes(b"torn")


def damage_numbers(source: Path) -> None:
    model = load_model(source, device="cpu", dtype=torch.float32)
    model.model.norm.weight.data[0] = float("nan")
    save_model(model, TOKENIZER, source)


def remove_tokenizer(source: Path) -> None:
    (source / "tokenizer.json").unlink()


@pytest.mark.parametrize("damage", [damage_weights, damage_numbers, remove_tokenizer])
def test_failed_conversion_leaves_the_old_model_and_nothing_else(damage: Any, tmp_path: Path) -> None:
    saved(tmp_path / "source")
    saved(tmp_path / "out")
    damage(tmp_path / "source")
    before = contents(tmp_path)
    with pytest.raises((CheckpointError, DataError)) as raised:
        convert(tmp_path / "source", tmp_path / "out", overwrite=True)
    assert raised.value.hint
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["runs", "file", "checkpoint"])
def test_what_is_no_converted_model_is_never_overwritten(name: str, tmp_path: Path) -> None:
    saved(tmp_path / "source")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.json").touch()
    (tmp_path / "file").touch()
    saved(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "training").mkdir()
    with pytest.raises(CheckpointError, match="is not a converted model"):
        convert(tmp_path / "source", tmp_path / name, overwrite=True)


@pytest.mark.parametrize("out", ["source", "source/out", ".", "source/../source"])
def test_model_is_never_written_into_or_over_its_source(out: str, tmp_path: Path) -> None:
    saved(tmp_path / "source")
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="overlap"):
        convert(tmp_path / "source", tmp_path / out, overwrite=True)
    assert contents(tmp_path) == before


def test_what_somebody_made_during_the_conversion_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "source")
    load = transformers.AutoTokenizer.from_pretrained

    def load_while_somebody_works(*arguments: Any, **options: Any) -> Any:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "thesis.txt").touch()
        return load(*arguments, **options)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", load_while_somebody_works)
    with pytest.raises(CheckpointError, match="exists already"):
        convert(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "source", MODEL, make_tokenizer("bytes", list, turn_tokens=False))
    assert isinstance(model.output_weight, Tensor)
    TOKENIZER.save(tmp_path / "source")
    with pytest.raises(CheckpointError, match="the tokenizer gives 259 ids, the model embeds 257"):
        convert(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
