"""What a model is, what a run does, how text was prepared: frozen, checked, to and from JSON.

Every setting's default, meaning and unit is written once, here; the command line derives its options from these fields.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from gemmazero.duration import seconds
from gemmazero.errors import ConfigError, UsageError
from gemmazero.hub_name import is_hub_name
from gemmazero.huggingface_config import config_json, model_settings
from gemmazero.json_file import AGAIN, read_json
from gemmazero.setting import LARGEST_SEED, check_settings, setting

LayerType = Literal["sliding_attention", "full_attention"]
ModelType = Literal["gemma3_text", "gemma2"]
Schedule = Literal["cosine", "wsd", "constant"]
OptimizerName = Literal["adamw", "adamw8bit", "muon"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

DEFAULT_SOURCE = "roneneldan/TinyStories"
RUNS = Path("runs")  # where run folders are made and looked for
DEFAULT_MAX_TOKENS = 256  # that generate and chat write

_LARGEST_SIZE = 2**24  # the product of any two still counts bytes in 64 bits
_FLOAT32 = (1e-38, 1e38)  # what is neither nothing nor infinite in it


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One architecture, completely, under transformers' key names; equal configs build equal models.

    Sources: the Gemma 2 report (arXiv 2408.00118), the Gemma 3 report (arXiv 2503.19786), transformers' defaults.
    """

    model_type: ModelType = "gemma3_text"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: int
    layer_types: tuple[LayerType, ...]
    sliding_window: int
    max_position_embeddings: int
    rope_theta: float = 1_000_000.0
    rope_local_base_freq: float = 10_000.0
    rope_scaling_factor: float = 1.0
    rms_norm_eps: float = 1e-6
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "sliding_window",
                     "max_position_embeddings"):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _LARGEST_SIZE:
                raise ConfigError(f'{name} must be a positive whole number up to {_LARGEST_SIZE}, not "{value}"')
        for name in ("rope_theta", "rope_local_base_freq", "rope_scaling_factor", "rms_norm_eps", "initializer_range",
                     "attn_logit_softcapping", "final_logit_softcapping"):  # fmt: skip
            value = getattr(self, name)
            if value is None and name.endswith("softcapping"):
                continue
            if type(value) not in (int, float) or not _FLOAT32[0] <= value <= _FLOAT32[1]:
                raise ConfigError(f'{name} must be a positive number that float32 can hold, not "{value}"')
            object.__setattr__(self, name, float(value))  # transformers takes no whole number here
        if type(self.tie_word_embeddings) is not bool:
            raise ConfigError(f'tie_word_embeddings must be true or false, not "{self.tie_word_embeddings}"')
        ends = self.eos_token_id if isinstance(self.eos_token_id, tuple) else (self.eos_token_id,)
        if any(token is not None and type(token) is not int for token in (self.pad_token_id, self.bos_token_id, *ends)):
            raise ConfigError("pad_token_id, bos_token_id and eos_token_id must be whole numbers")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ConfigError(f"pad_token_id {self.pad_token_id} is not among {self.vocab_size} token ids")
        self._check_shape()

    def _check_shape(self) -> None:
        if self.model_type not in get_args(ModelType):
            raise ConfigError(f'model_type "{self.model_type}" is not gemma3_text or gemma2')
        if len(self.layer_types) != self.num_hidden_layers:
            raise ConfigError(f"{len(self.layer_types)} layer_types for {self.num_hidden_layers} layers")
        if unknown := [kind for kind in self.layer_types if kind not in get_args(LayerType)]:
            raise ConfigError(f'unknown layer type "{unknown[0]}"', f"one of {', '.join(get_args(LayerType))}")
        heads = self.num_attention_heads
        if heads % self.num_key_value_heads:
            raise ConfigError(f"{heads} attention heads cannot share {self.num_key_value_heads} key-value heads evenly")
        if self.hidden_size % heads:  # Gemma needs it not, but transformers would refuse the checkpoint
            raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of {heads} attention heads")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, not {self.head_dim}")
        if self.is_gemma3 and self.attn_logit_softcapping is not None:
            raise ConfigError("attn_logit_softcapping on Gemma 3: transformers never applies it", "remove it")
        if not self.is_gemma3 and self.rope_local_base_freq != 10_000:
            raise ConfigError("rope_local_base_freq on Gemma 2: it has one RoPE base, rope_theta")

    @property
    def is_gemma3(self) -> bool:
        """Gemma 3 has QK-norm, a RoPE base of its own for sliding layers, and no attention soft-cap."""
        return self.model_type == "gemma3_text"

    @property
    def parameters(self) -> int:
        """How many numbers the model's weights are."""
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads  # of queries and the output, keys, values
        attention = heads * self.head_dim * self.hidden_size + (2 * self.head_dim if self.is_gemma3 else 0)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 4 * self.hidden_size
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return embeddings + self.num_hidden_layers * layer + self.hidden_size

    def with_vocabulary(self, size: int, end_id: int) -> Self:
        """This architecture for a tokenizer of ``size`` ids whose documents end with ``end_id``."""
        return dataclasses.replace(self, vocab_size=size, pad_token_id=end_id, bos_token_id=end_id, eos_token_id=end_id)

    def to_json(self) -> dict[str, Any]:
        """A ``config.json`` that transformers 4.57 and 5 read alike (RoPE is written in both spellings)."""
        return config_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Self:
        """Read a transformers ``config.json``, as strictly as ``model_settings`` does. Raises ConfigError."""
        try:
            return cls(**model_settings(config))
        except TypeError as error:
            raise ConfigError(f"unreadable model config: {error}", AGAIN) from error

    @classmethod
    def read(cls, path: Path, *, hint: str = AGAIN) -> Self:
        """The config in a JSON file. Raises ConfigError where there is none, or another thing: ``hint``."""
        record = read_json(path, hint=hint)
        try:
            return cls.from_json(record)
        except ConfigError as error:
            raise ConfigError(error.message, error.hint or f'mend it in "{path}"') from error


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a run computes, and how it is carried out."""

    steps: int = setting(3000, "Optimizer steps in all.", panel="Length", minimum=1)
    batch_size: int = setting(32, "Sequences an optimizer step.", panel="Length", minimum=1, maximum=2**20)
    sequence_length: int = setting(512, "Tokens a sequence.", panel="Length", minimum=2)
    micro_batch_size: int | Literal["auto"] = setting(
        "auto", "Sequences on the device at once, the rest is accumulated; auto: as many as fit, within a bound.",
        panel="Machine", kind="equivalent", minimum=1,
    )  # fmt: skip
    learning_rate: float = setting(1e-3, "Peak learning rate.", panel="Optimization", minimum=0.0)
    min_learning_rate: float = setting(0.0, "Learning rate at the last step.", panel="Optimization", minimum=0.0)
    warmup_steps: int = setting(100, "Steps of linear warm-up.", panel="Optimization", minimum=0)
    schedule: Schedule = setting(
        "cosine", "After warm-up: cosine, wsd (linear decay in the last fifth), or constant.", panel="Optimization"
    )
    weight_decay: float = setting(0.1, "Decoupled weight decay of the matrices.", panel="Optimization", minimum=0.0)
    beta1: float = setting(0.9, "AdamW's decay of the first moment.", panel="Optimization", minimum=0.0)
    beta2: float = setting(0.95, "AdamW's decay of the second moment.", panel="Optimization", minimum=0.0)
    clip_norm: float = setting(1.0, "Largest gradient norm; 0 never clips.", panel="Optimization", minimum=0.0)
    optimizer: OptimizerName = setting(
        "adamw", "adamw (but for nano), adamw8bit (a quarter of the state), or muon (half of it for the matrices).",
        panel="Optimization",
    )  # fmt: skip
    precision: PrecisionName = setting(
        "auto", "auto, fp32, bf16 or fp16; weights are always kept in fp32.", panel="Machine"
    )
    gradient_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass: less memory, a third more time.", panel="Machine"
    )
    compile: bool | None = setting(
        None, "Compile the model's blocks: faster steps after a minute's work, so by default on CUDA alone; "
        "a CPU needs a C++ compiler.",
        panel="Machine", kind="equivalent",
    )  # fmt: skip
    mask_documents: bool = setting(
        False, "Keep attention inside of each document; positions begin anew there.", panel="Data"
    )
    stream: bool = setting(False, "Train while the source's documents arrive; nothing is prepared.", panel="Data")
    seed: int = setting(
        0, "Seed of the weights and of the data's order.", panel="Length", minimum=0, maximum=LARGEST_SEED
    )
    device: DeviceName = setting("auto", "auto, cpu, cuda or mps.", panel="Machine", kind="equivalent")
    threads: int = setting(
        0, "CPU threads; 0 takes every core.", panel="Machine", kind="equivalent", minimum=0, maximum=1024
    )
    validate_every: int = setting(250, "Steps between validations.", panel="Validating and saving", minimum=1)
    validation_tokens: int = setting(
        262_144, "Validation tokens, a fixed part of the split; 0 takes all of it.", panel="Validating and saving",
        minimum=0,
    )  # fmt: skip
    save_every: int = setting(250, "Steps between checkpoints.", panel="Validating and saving", kind="exact", minimum=1)
    save_minutes: float = setting(
        0.0, "Minutes between checkpoints, beside --save-every; 0 looks at no clock.", panel="Validating and saving",
        kind="exact", minimum=0.0,
    )  # fmt: skip
    keep: int = setting(
        3, "Newest checkpoints kept, beside the best.", panel="Validating and saving", kind="exact", minimum=1
    )
    max_time: str | None = setting(
        None, "Stop, everything saved, after so long, the start included: 90s, 15m, 2h.",
        panel="Validating and saving", kind="exact",
    )  # fmt: skip
    hub_repo: str | None = setting(
        None, "A model repository on the Hub, USER/NAME: saves go there; a run that it holds goes on.",
        panel="Hub", kind="exact",
    )  # fmt: skip
    hub_private: bool = setting(False, "Make the repository private, where it is made.", panel="Hub", kind="exact")
    hub_overwrite: bool = setting(
        False, "Let the repository lose another run that it holds; this command alone.", panel="Hub", kind="exact"
    )

    @property
    def batch_tokens(self) -> int:
        """Tokens an optimizer step."""
        return self.batch_size * self.sequence_length

    def __post_init__(self) -> None:
        check_settings(self)
        if self.max_time is not None:
            seconds(self.max_time, option="--max-time")
        if self.hub_repo is not None and (not is_hub_name(self.hub_repo) or "@" in self.hub_repo):
            raise UsageError(f'--hub-repo "{self.hub_repo}" is not USER/NAME', "--hub-repo someone/some-model")
        if self.min_learning_rate > self.learning_rate:
            raise UsageError(
                f"--min-learning-rate {self.min_learning_rate:g} is above --learning-rate {self.learning_rate:g}",
                "lower --min-learning-rate",
            )
        if self.warmup_steps >= self.steps:
            raise UsageError(
                f"--warmup-steps {self.warmup_steps} is not below --steps {self.steps}", "lower --warmup-steps"
            )
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise UsageError(f"--{name} must be below 1, not {getattr(self, name):g}", f"lower --{name}")


STREAM_OPTIONS = (
    "subset", "revision", "split", "text_column", "document_separator", "tokenizer", "turn_tokens", "min_characters",
)  # fmt: skip
"""What of PrepareConfig also says how a source is streamed."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How text is prepared. All that decides which tokens a data folder holds is recorded in its manifest."""

    subset: str | None = setting(None, "The Hub dataset's subset (its configuration).", panel="Source")
    revision: str | None = setting(None, "The Hub dataset's branch, tag or commit.", panel="Source")
    split: str = setting("train", "The split that becomes training text.", panel="Source")
    text_column: str = setting("text", "The column or key that holds the text.", panel="Source")
    document_separator: str | None = setting(
        None, r"What ends a document in a .txt or .md file: '<|endoftext|>', '\n\n' for a blank line.",
        panel="Source",
    )  # fmt: skip
    tokenizer: str | None = setting(
        None, "gpt2 (the default), bytes, bpe:SIZE (sample's default is bpe:1024), a tokenizer.json or its folder, "
        "or a Hub id: user/name or user/name@revision.",
        panel="Tokens",
    )  # fmt: skip
    turn_tokens: bool = setting(
        False, "Add <start_of_turn> and <end_of_turn> to the vocabulary, for chat.", panel="Tokens"
    )
    validation_fraction: float = setting(
        0.01, "Share of documents held out where the source has no validation split.", panel="Documents", minimum=0.0
    )
    keep_duplicates: bool = setting(False, "Keep exact copies of a document.", panel="Documents")
    max_documents: int = setting(0, "Stop after so many documents a split; 0 takes all.", panel="Documents", minimum=0)
    min_characters: int = setting(1, "Drop documents of fewer characters, trimmed.", panel="Documents", minimum=1)
    seed: int = setting(
        0, "Seed of the held-out share, and of sample's stories.", panel="Documents", minimum=0, maximum=LARGEST_SEED
    )
    workers: int = setting(
        0, "Processes that tokenize; 0 takes every core. The tokens are the same with any number.", panel="Machine",
        kind="exact", minimum=0, maximum=1024,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        if self.validation_fraction >= 1:
            raise UsageError(
                f"--validation-fraction must be below 1, not {self.validation_fraction:g}",
                "lower --validation-fraction",
            )
