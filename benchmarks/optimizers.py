"""Three optimizers on real stories: the loss on held-out text after so many steps, over several seeds.

    python benchmarks/optimizers.py STORIES [--preset nano] [--steps 400] [--seeds 3]

The preset is trained from nothing with AdamW, with AdamW whose moments have 8 bits, and with Muon, all with the same
batches and the same learning rate, Muon also with --muon-learning-rate where that is given. A row for each has the mean
loss of the seeds, in nats a token, at every tenth of the run, how far the seeds lie apart at the end, the step by which
it had reached AdamW's last loss, and the median time of a step.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import gemmazero
from gemmazero.runtime import wait_politely
from gemmazero.training.events import Stepped, Validated
from results import write_results

TENTHS = 10


@dataclass(frozen=True)
class Curve:
    """A run: held-out loss by step, seconds of a step."""

    losses: dict[int, float]
    step_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", type=Path, help="what prepare takes")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--tokenizer", default="bpe:1024")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--muon-learning-rate", type=float)
    options = parser.parse_args()
    wait_politely()
    contenders = {name: (name, options.learning_rate) for name in ("adamw", "adamw8bit", "muon")}
    if rate := options.muon_learning_rate:
        contenders[f"muon, learning rate {rate:g}"] = ("muon", rate)
    curves: dict[str, list[Curve]] = {name: [] for name in contenders}
    with TemporaryDirectory() as folder:
        gemmazero.prepare(options.stories, Path(folder, "data"), tokenizer=options.tokenizer)
        for seed in range(options.seeds):
            for name, (optimizer, learning_rate) in contenders.items():
                out = Path(folder, f"{len(curves[name])}-{name}")
                settings = {"preset": options.preset, "steps": options.steps, "seed": seed, "out": out}
                curves[name].append(trained(Path(folder, "data"), optimizer, learning_rate, **settings))
                print(name, seed, curves[name][-1], file=sys.stderr, flush=True)
    rows = [row_of(name, seeds, curves["adamw"]) for name, seeds in curves.items()]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    shared = ("preset", "tokenizer", "steps", "seeds", "learning_rate")
    write_results("optimizers", rows, {name: getattr(options, name) for name in shared})


def trained(data: Path, optimizer: str, learning_rate: float, *, steps: int, out: Path, **settings: object) -> Curve:
    tenth = max(1, steps // TENTHS)
    run = gemmazero.train(
        data=data, out=out, optimizer=optimizer, learning_rate=learning_rate, min_learning_rate=learning_rate / 10,
        steps=steps, warmup_steps=steps // 10, validate_every=tenth, save_every=steps, precision="fp32",
        validation_tokens=65_536, **settings,
    )  # fmt: skip
    losses, seconds = {}, []
    for event in run:
        if isinstance(event, Validated):
            losses[event.step] = event.loss
        elif isinstance(event, Stepped):
            seconds.append(event.seconds)
    return Curve(losses, statistics.median(seconds))


def row_of(name: str, seeds: list[Curve], adamw: list[Curve]) -> dict[str, object]:
    means = {step: statistics.mean(curve.losses[step] for curve in seeds) for step in seeds[0].losses}
    last = [curve.losses[max(means)] for curve in seeds]
    goal = statistics.mean(curve.losses[max(means)] for curve in adamw)
    return {
        "optimizer": name,
        **{f"step {step}": round(loss, 3) for step, loss in means.items()},
        "seeds apart": round(max(last) - min(last), 3),
        "reached AdamW's": next((step for step, loss in means.items() if loss <= goal), None),
        "seconds a step": round(statistics.median(curve.step_seconds for curve in seeds), 3),
    }


if __name__ == "__main__":
    main()
