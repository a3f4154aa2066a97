"""llama.cpp as a contender of decoding.py: our random Gemma 3 as a GGUF file, decoded by llama-cpp-python.

Both ``pip install llama-cpp-python gguf``; the file has weights and no tokenizer, and is thrown away.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gemmazero.inference.pace import Pace, Stopwatch
from gemmazero.model.gemma import Gemma

TYPES = {"f32": "F32", "bf16": "BF16", "q8_0": "Q8_0"}
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip


def llama_cpp(model: Gemma, dtype: str, prompt: list[int], new: int, threads: int) -> Callable[[], Pace]:
    """Decode ``new`` tokens greedily after ``prompt``, each time from nothing."""
    from llama_cpp import Llama

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        write_gguf(model, dtype, file)
        llama = Llama(
            str(file), n_ctx=512, n_threads=threads, n_threads_batch=threads, use_mmap=False, verbose=False, seed=0
        )

    def decode() -> Pace:
        llama.reset()  # else it remembers the prompt
        stopwatch = Stopwatch()
        for count, _ in enumerate(llama.generate(prompt, temp=0.0, reset=True), start=1):
            stopwatch.count()
            if count == new:
                break
        return stopwatch.pace()

    return decode


def write_gguf(model: Gemma, dtype: str, file: Path) -> None:
    """The weights of a tied Gemma 3, matrices in ``dtype``; norms as 1 + weight in float32."""
    import gguf

    config, kind = model.config, gguf.GGMLQuantizationType[TYPES[dtype]]
    writer = gguf.GGUFWriter(str(file), "gemma3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")

    def add(name: str, weight: Tensor) -> None:
        if weight.dim() == 1:
            writer.add_tensor(name, (1.0 + weight.detach()).numpy())
        else:
            data = gguf.quants.quantize(weight.detach().numpy(), kind)
            writer.add_tensor(name, data, raw_dtype=kind)

    add("token_embd.weight", model.model.embed_tokens.weight)
    add("output_norm.weight", model.model.norm.weight)
    for index, block in enumerate(model.model.layers):
        for ours, theirs in NAMES.items():
            add(f"blk.{index}.{theirs}.weight", block.get_submodule(ours).weight)  # type: ignore[arg-type]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
