"""A run's plan, as people and as programs read it."""

import dataclasses
from typing import TYPE_CHECKING, Any

from gemmazero.cli import console, units

if TYPE_CHECKING:
    from gemmazero.training.plan import Plan


def show(plan: "Plan", *, as_json: bool) -> None:
    """Print the plan."""
    if as_json:
        console.result_json(_record(plan))
    else:
        console.result(_told(plan))


def _record(plan: "Plan") -> dict[str, Any]:
    return dataclasses.asdict(plan) | {"run": str(plan.run), "fits": plan.fits}


def _told(plan: "Plan") -> str:
    memory, checkpoints = plan.memory, plan.disk_bytes - (plan.data_bytes or 0)
    assumed = ", if the data gets the vocabulary that is assumed" if plan.vocabulary_is_assumed else ""
    data = "the data is still to be prepared" if plan.data_bytes is None else f"data {units.size(plan.data_bytes)}"
    batch = f"{plan.batch_size} × {plan.sequence_length} tokens, {plan.micro_batch_size} sequences at once"
    rows = {
        "model": f"{units.amount(plan.parameters)} parameters with {plan.vocabulary:,} token ids{assumed}",
        "machine": f"{plan.device}, {plan.precision}, {plan.threads} CPU threads",
        "training": f"{plan.steps:,} steps of {batch}: {units.amount(plan.tokens)} tokens, {plan.flops:.2g} FLOPs",
        "memory": f"{units.size(memory.total)} at most{_free(plan)}",
        "  process": units.size(memory.process),
        "  parameters": units.size(memory.parameters),
        "  gradients": units.size(memory.gradients),
        "  optimizer": units.size(memory.optimizer),
        "  activations": units.size(memory.activations),
        "  logits": f"{units.size(memory.logits)}, a chunk",
        "disk": f"{units.size(checkpoints)} of checkpoints at most, {units.size(plan.checkpoint_bytes)} each; {data}",
        "time": _time(plan),
    }
    if plan.uncompiled_because:
        rows["not compiled"] = plan.uncompiled_because
    lines = [f"{plan.run} would train {plan.preset}; nothing was written"]
    return "\n".join([*lines, *(f"  {name:<15}{text}" for name, text in rows.items())])


def _free(plan: "Plan") -> str:
    if plan.memory_free is None:
        return ""
    return f"; {units.size(plan.memory_free)} free" + ("" if plan.fits else ": it does not fit")


def _time(plan: "Plan") -> str:
    if plan.seconds is None or plan.tokens_per_second is None:
        return "not tried, for want of memory"
    mfu = "" if plan.mfu is None else f", MFU {plan.mfu:.0%}"
    speed = f"{plan.tokens_per_second:,.0f} tokens/s{mfu}"
    return f"about {units.duration(plan.seconds)}, saving not counted, by a few steps on random tokens: {speed}"
