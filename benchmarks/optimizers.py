"""Three optimizers on real stories: the loss on held-out text after so many steps, over several seeds.

    python benchmarks/optimizers.py STORIES [--preset nano] [--steps 200] [--seeds 2] [--also OPTIMIZER RATE]…

The preset is trained from nothing with AdamW, with AdamW whose moments have 8 bits, and with Muon, all with the same
batches and the same learning rate, and with those that ``--also`` names: AdamW's best need not be Muon's. A row for
each has the mean loss of the seeds, in nats a token, at every tenth of the run, how far the seeds lie apart at the end,
and the step by which it had reached the lowest last loss of AdamW at any rate. docs/optimizers.png shows the curves.
"""

import argparse
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import gemmazero
from gemmazero.runtime import wait_politely
from gemmazero.training.events import Validated
from results import write_results

TENTHS = 10
PICTURE = Path(__file__).parent.parent / "docs" / "optimizers.png"


Curve = dict[int, float]  # held-out loss by step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", type=Path, help="what prepare takes")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--tokenizer", default="bpe:1024")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--also", nargs=2, action="append", metavar=("OPTIMIZER", "RATE"), help="adamw 0.005 and 0.02")
    options = parser.parse_args()
    wait_politely()
    contenders = {name: (name, options.learning_rate) for name in ("adamw", "adamw8bit", "muon")}
    for name, rate in options.also or (("adamw", "0.005"), ("adamw", "0.02")):
        contenders[f"{name}, learning rate {rate}"] = (name, float(rate))
    curves: dict[str, list[Curve]] = {name: [] for name in contenders}
    with TemporaryDirectory() as folder:
        gemmazero.prepare(options.stories, Path(folder, "data"), tokenizer=options.tokenizer)
        for seed in range(options.seeds):
            for name, (optimizer, learning_rate) in contenders.items():
                out = Path(folder, f"{len(curves[name])}-{name}")
                settings = {"preset": options.preset, "steps": options.steps, "seed": seed, "out": out}
                curves[name].append(trained(Path(folder, "data"), optimizer, learning_rate, **settings))
                print(name, seed, curves[name][-1], file=sys.stderr, flush=True)
    goal = min([*mean_of(seeds).values()][-1] for name, seeds in curves.items() if contenders[name][0] == "adamw")
    rows = [row_of(name, seeds, goal) for name, seeds in curves.items()]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    shared = ("preset", "tokenizer", "steps", "seeds", "learning_rate")
    write_results("optimizers", rows, {name: getattr(options, name) for name in shared})
    draw({name: mean_of(seeds) for name, seeds in curves.items()})


def trained(data: Path, optimizer: str, learning_rate: float, *, steps: int, out: Path, **settings: object) -> Curve:
    tenth = max(1, steps // TENTHS)
    run = gemmazero.train(
        data=data, out=out, optimizer=optimizer, learning_rate=learning_rate, min_learning_rate=learning_rate / 10,
        steps=steps, warmup_steps=steps // 10, validate_every=tenth, save_every=steps, precision="fp32",
        validation_tokens=65_536, **settings,
    )  # fmt: skip
    return {event.step: event.loss for event in run if isinstance(event, Validated)}


def mean_of(seeds: list[Curve]) -> Curve:
    return {step: statistics.mean(curve[step] for curve in seeds) for step in seeds[0]}


def row_of(name: str, seeds: list[Curve], goal: float) -> dict[str, object]:
    means = mean_of(seeds)
    last = [curve[max(means)] for curve in seeds]
    return {
        "optimizer": name,
        **{f"step {step}": round(loss, 3) for step, loss in means.items()},
        "seeds apart": round(max(last) - min(last), 3),
        "reached AdamW's": next((step for step, loss in means.items() if loss <= goal), None),
    }


def draw(curves: dict[str, Curve]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="held-out loss, nats a token")
    for name, losses in curves.items():
        axes.plot(list(losses), list(losses.values()), label=name, marker=".")
    axes.legend()
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
