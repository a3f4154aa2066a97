"""`make demo`: from nothing to a small model that tells stories, killed and resumed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gemmazero.data.sample import stories
from trigram import validation_loss

FOLDER = Path("demo")
DATA, RUN = FOLDER / "data", FOLDER / "nano"
GEMMAZERO = [sys.executable, "-m", "gemmazero"]
STORIES_WANTED, WORDS_WANTED = 3, 60


def main() -> None:
    """The whole demonstration, each command shown before it runs."""
    show("prepare", "sample", "--validation-fraction", "0.05", "--out", str(DATA))
    train = ["train", "--preset", "nano", "--data", str(DATA), "--out", str(RUN)]
    step = kill_after_second_checkpoint(train)
    print(f"\nkilled with SIGKILL after step {step}; now the same run goes on:", flush=True)
    show("resume", str(RUN))
    evaluation = json.loads(show("eval", str(RUN), "--json"))
    trigram = validation_loss(DATA)
    print(f"\nvalidation loss, nats a token: nano {evaluation['loss']:.3f}, trigram model {trigram:.3f}")
    tell_stories()
    print(f"\nloss plot: {RUN / 'loss_plot.png'}\nnext:      .venv/bin/gemmazero chat --model {RUN}")
    if evaluation["loss"] >= trigram:
        sys.exit("nano did not beat the trigram model")


def show(*arguments: str) -> str:
    """Show a gemmazero command, run it, and show its result, which is returned."""
    print(f"\n$ gemmazero {' '.join(arguments)}", flush=True)
    result = subprocess.run([*GEMMAZERO, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    print(result, end="", flush=True)
    return result


def kill_after_second_checkpoint(arguments: list[str]) -> int:
    """Start a run and kill it, without warning, some steps after its second checkpoint; the last step it logged."""
    print(f"\n$ gemmazero {' '.join(arguments)}", flush=True)
    with subprocess.Popen([*GEMMAZERO, *arguments]) as process:
        while len(list(RUN.glob("checkpoints/step-*"))) < 2 and process.poll() is None:
            time.sleep(0.2)
        time.sleep(2.0)
        os.kill(process.pid, signal.SIGKILL)
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    return max(line["step"] for line in lines)


def tell_stories() -> None:
    """Print stories of the model's own, with the longest run of words that each shares with the corpus."""
    corpus = " " + " ".join(" ".join(stories(0)).split()) + " "
    told = 0
    for seed in range(1, 50):
        prompt = "Once upon a time"
        answer = json.loads(show_quietly("generate", prompt, "--model", str(RUN), "--seed", str(seed), "--json"))
        story = prompt + answer["text"]
        if len(story.split()) >= WORDS_WANTED and answer["finish"] == "end":
            words = longest_shared_run(story.split(), corpus)
            print(f"\n{story.strip()}\n  [{len(story.split())} words; the longest run shared with the corpus: {words}]")
            told += 1
        if told == STORIES_WANTED:
            return
    sys.exit("the model told too few stories")


def show_quietly(*arguments: str) -> str:
    """Run a gemmazero command without showing it; its standard output."""
    return subprocess.run(
        [*GEMMAZERO, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def longest_shared_run(words: list[str], corpus: str) -> int:
    """The most words in a row that stand in the corpus just so."""
    longest = 0
    for start in range(len(words)):
        while start + longest < len(words) and f" {' '.join(words[start : start + longest + 1])} " in corpus:
            longest += 1
    return longest


if __name__ == "__main__":
    main()
