"""The seven commands in a row, as a user types them; it needs no file of the repository, no network and no GPU."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from program import Program, run_forked

TRAIN = [
    "train", "--preset", "nano", "--data", "data/sample", "--out", "runs/tiny", "--steps", "16", "--batch-size", "4",
    "--sequence-length", "64", "--validate-every", "6", "--validation-tokens", "1024", "--save-every", "5",
    "--threads", "1",
]  # fmt: skip


def test_seven_commands_take_text_to_a_model_that_talks(gemmazero: Program, tmp_path: Path) -> None:
    def told(*arguments: object, **options: Any) -> Any:
        """The JSON object of a command that succeeds."""
        done = gemmazero(*arguments, "--json", **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    report = told("prepare", "sample", "--tokenizer", "bpe:512", "--max-documents", "600")
    assert report["vocab_size"] == 512
    assert report["validation"]["documents"] > 0

    interrupted = stopped_by_ctrl_c(tmp_path, TRAIN)
    assert "gemmazero resume runs/tiny" in interrupted

    resumed = told("resume", "runs/tiny")
    assert {**resumed, "loss": 0, "validation_loss": 0, "best_step": 0} == {
        "run": str(Path("runs/tiny")), "step": 16, "finished": True, "loss": 0, "validation_loss": 0, "best_step": 0,
    }  # fmt: skip
    steps = [event["step"] for event in metrics(tmp_path) if event["event"] == "stepped"]
    assert steps == list(range(1, 17))
    assert (tmp_path / "runs/tiny/loss_plot.png").read_bytes().startswith(b"\x89PNG")
    again = run_forked(tmp_path, *TRAIN, "--json")  # the same command again: it had finished
    assert json.loads(again.stdout) == resumed

    evaluation = told("eval")
    assert set(evaluation) == {"loss", "perplexity", "bits_per_byte", "accuracy", "tokens", "split"}
    assert evaluation["tokens"] == report["validation"]["tokens"] - 1

    generate = ["generate", "Once upon a time", "--seed", "1", "--max-tokens", "12"]
    continuation = told(*generate)
    told_of = {"prompt", "text", "tokens", "finish", "seconds", "tokens_per_second"}
    assert set(continuation) == told_of | {"first_token_seconds", "steady_tokens_per_second"}
    for command, read in ((generate, ""), (["generate", "-", *generate[2:]], "Once upon a time\n")):
        assert run_forked(tmp_path, *command, input=read).stdout == continuation["text"] + "\n"

    talk = gemmazero(
        "chat", "--max-tokens", "5", "--seed", "1", input="Once\n/save talk.json\n/undo\n/load talk.json\n/exit\n"
    )
    assert (talk.returncode, "story:" in talk.stderr) == (0, True)
    assert "saved 1 turn to" in talk.stderr
    assert "loaded 1 turn from" in talk.stderr
    assert [message["role"] for message in json.loads((tmp_path / "talk.json").read_text())["messages"]] == [
        "user",
        "assistant",
    ]

    verdict = told("convert", "runs/tiny", "exported", "--to", "huggingface")
    assert verdict["ok"] is True
    assert run_forked(tmp_path, *generate, "--model", "exported").stdout == continuation["text"] + "\n"


def stopped_by_ctrl_c(folder: Path, arguments: list[str]) -> str:
    """Run the command, press Ctrl-C after its first step, and see it stop with everything saved; returns its talk."""
    command = [sys.executable, "-m", "gemmazero", *arguments]
    with subprocess.Popen(command, cwd=folder, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        talk = []
        for line in process.stderr:
            talk.append(line)
            if line.startswith("step 1 of"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, talk
    return "".join(talk)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs/tiny/metrics.jsonl").read_text().splitlines()]
