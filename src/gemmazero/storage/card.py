"""A run's facts → the model card of its repository on the Hub."""

import hashlib
import json
from typing import Any

from gemmazero.config import DEFAULT_MAX_TOKENS
from gemmazero.hub_name import is_hub_name
from gemmazero.run_config import RunConfig
from gemmazero.storage.remote_state import HEAVY

_MARK = "<!-- written by gemmazero, and left alone once it is edited: "


def model_card(repo: str, config: RunConfig, *, step: int, best_step: int, validation_loss: float | None) -> str:
    """README.md: metadata that the Hub reads, what the model is, how it was trained, how to use it and to go on."""
    model, train, data = config.model, config.train, config.data
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gemmazero", model.model_type],
    }
    if is_hub_name(data.source):
        metadata["datasets"] = [data.source]
    revision = f" at `{data.revision}`" if data.revision and not data.revision.startswith("sha256:") else ""
    loss = "not validated yet" if validation_loss is None else f"{validation_loss:.4f} nats a token"
    facts = {
        "architecture": f"{'Gemma 3' if model.is_gemma3 else 'Gemma 2'} text, {model.num_hidden_layers} layers of "
        f"width {model.hidden_size}",
        "parameters": f"{model.parameters:,}",
        "vocabulary": f"{model.vocab_size:,} tokens",
        "data": f"`{data.source}`{revision}",
        "data's digest": f"`{data.manifest_digest}`",
        "run": f"`{config.run_id}`, at step {step:,} of {train.steps:,}",
        "this model": f"step {best_step:,}",
        "validation loss": loss,
        "a step": f"{train.batch_size} sequences of {train.sequence_length} tokens",
        "optimizer": f"{train.optimizer}, learning rate {train.learning_rate:g}, {train.schedule}",
        "precision": train.precision,
    }
    header = "\n".join(f"{key}: {json.dumps(value)}" for key, value in metadata.items())
    table = "\n".join(f"| {name} | {fact.replace('|', ' ')} |" for name, fact in facts.items())
    card = f"""---
{header}
---

# {repo.split("/")[-1]}

A language model trained from nothing with GemmaZero.

| | |
| --- | --- |
{table}

![loss](loss_plot.png)

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo}")
model = AutoModelForCausalLM.from_pretrained("{repo}")
ids = tokenizer("Once upon a time", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens={DEFAULT_MAX_TOKENS}, do_sample=True)[0]))
```

The branch `{HEAVY}` holds the newest complete state of the run. `gemmazero resume {repo}` goes on from it, exactly.
"""
    return f"{card}{_MARK}{_digest(card.encode())} -->\n"


def is_own_card(text: bytes) -> bool:
    """Whether ``text`` is a card of ``model_card`` that nobody has edited."""
    card, mark, end = text.rpartition(_MARK.encode())
    return bool(mark) and end == f"{_digest(card)} -->\n".encode()


def _digest(card: bytes) -> str:
    return hashlib.sha256(card).hexdigest()[:16]
