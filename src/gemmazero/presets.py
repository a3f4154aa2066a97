"""The named model sizes, as literals, each with training defaults for its smallest sensible device."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemmazero.config import LayerType, ModelConfig
from gemmazero.errors import UsageError

DEFAULT_PRESET = "15m"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model size. ``model`` has GPT-2's vocabulary until the data's own takes its place."""

    name: str
    model: ModelConfig
    train: Mapping[str, Any] = field(default_factory=dict)


def find_preset(name: str) -> Preset:
    """The preset called ``name``, or the model in the config file ``name``.

    Raises UsageError for a name that is neither, ConfigError for a file that cannot be used.
    """
    if name in PRESETS:
        return PRESETS[name]
    path, known = Path(name), f"one of {', '.join(PRESETS)}, or a config.json"
    if path.suffix == ".json" or _is_file(path):
        model = ModelConfig.read(path, hint=known)
        return Preset(name=path.stem, model=model, train={"sequence_length": min(512, model.max_position_embeddings)})
    close = difflib.get_close_matches(name, PRESETS, n=1)
    raise UsageError(f'unknown preset "{name}"', f"did you mean {close[0]}?" if close else known)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for one
        return False


def _five_to_one(layers: int) -> tuple[LayerType, ...]:
    """Gemma 3's pattern: every sixth layer is global."""
    return tuple("full_attention" if (layer + 1) % 6 == 0 else "sliding_attention" for layer in range(layers))


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(  # two CPU cores, the sample corpus: three minutes in fp32, fewer in bf16
            name="nano",
            model=ModelConfig(
                vocab_size=50_257, hidden_size=128, intermediate_size=512, num_hidden_layers=4,
                num_attention_heads=4, num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32,
                layer_types=("sliding_attention", "full_attention") * 2,
                sliding_window=64, max_position_embeddings=512,
            ),
            train={"steps": 500, "batch_size": 8, "sequence_length": 256, "optimizer": "muon",
                   "learning_rate": 1e-2, "warmup_steps": 25, "validate_every": 100, "save_every": 100},
        ),
        Preset(  # a laptop's CPU, overnight
            name="15m",
            model=ModelConfig(
                vocab_size=50_257, hidden_size=192, intermediate_size=768, num_hidden_layers=10,
                num_attention_heads=3, num_key_value_heads=1, head_dim=64, query_pre_attn_scalar=64,
                layer_types=_five_to_one(10), sliding_window=256, max_position_embeddings=1024,
            ),
            train={"steps": 5000, "batch_size": 16, "sequence_length": 512,
                   "learning_rate": 2e-3, "warmup_steps": 200},
        ),
        Preset(  # a free T4
            name="90m",
            model=ModelConfig(
                vocab_size=50_257, hidden_size=768, intermediate_size=3072, num_hidden_layers=6,
                num_attention_heads=6, num_key_value_heads=2, head_dim=128, query_pre_attn_scalar=128,
                layer_types=("full_attention",) * 6, sliding_window=1024, max_position_embeddings=1024,
                rope_theta=10_000.0, final_logit_softcapping=30.0,
            ),
            train={"steps": 10_000, "batch_size": 64, "sequence_length": 512,
                   "learning_rate": 1e-3, "warmup_steps": 300},
        ),
        Preset(  # one 16 GB GPU
            name="270m",
            model=ModelConfig(
                vocab_size=50_257, hidden_size=640, intermediate_size=2048, num_hidden_layers=18,
                num_attention_heads=4, num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256,
                layer_types=_five_to_one(18), sliding_window=512, max_position_embeddings=32_768,
            ),
            train={"steps": 10_000, "batch_size": 128, "sequence_length": 1024,
                   "learning_rate": 6e-4, "warmup_steps": 500},
        ),
        Preset(  # one 80 GB GPU
            name="1b",
            model=ModelConfig(
                vocab_size=50_257, hidden_size=1152, intermediate_size=6912, num_hidden_layers=26,
                num_attention_heads=4, num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256,
                layer_types=_five_to_one(26), sliding_window=512, max_position_embeddings=32_768,
            ),
            train={"steps": 20_000, "batch_size": 256, "sequence_length": 1024,
                   "learning_rate": 3e-4, "warmup_steps": 1000},
        ),
    )
}  # fmt: skip
