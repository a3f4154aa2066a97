from dataclasses import replace
from pathlib import Path

import pytest
from test_figures import SKIPPED, STARTED, STEPPED, validated

from gemmazero.cli.progress import LiveProgress, PlainProgress
from gemmazero.training.events import Event, Rejected, Resumed, RolledBack, Saved, Uncompiled, Unsaved, Waiting


def test_plain_progress_writes_the_first_step_and_then_a_line_each_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with PlainProgress() as progress:
        progress.show(STARTED)
        for step in range(1, 42):
            progress.show(replace(STEPPED, step=step, seconds=0.5))
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "r starts: 1.3M parameters, 100 steps of 500 tokens, cpu, fp32"
    assert [line.split(",")[0] for line in lines] == ["step 1 of 100", "step 21 of 100", "step 41 of 100"]
    for part in ("loss 3.250", "learning rate 1.00e-03", "gradient norm 0.50", "400 tokens/s", "left", "memory 2.0 GB"):
        assert part in lines[0]


def test_plain_progress_writes_every_validation_and_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress() as progress:
        progress.show(STARTED)
        progress.show(validated(20, 3.5, True))
        progress.show(validated(20, 3.6, False))
        progress.show(Saved(step=20, checkpoint=Path("r/checkpoints/step-00000020"), seconds=0.1))
    text = capsys.readouterr().err
    assert "validation loss 3.5000, the best so far\n" in text
    assert "validation loss 3.6000\n" in text
    assert f"saved {Path('r/checkpoints/step-00000020')}\n" in text
    assert "\x1b" not in text
    assert "\r" not in text


def test_settings_given_anew_are_one_warning_each(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress() as progress:
        progress.show(
            Resumed(**{**STARTED.__dict__, "step": 60}, changed=("threads: 2 → 4",), extension="60 → 80 steps")
        )
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("r goes on after step 60: ")
    assert lines[1] == "extended: 60 → 80 steps"
    assert lines[2] == "warning: changed threads: 2 → 4; the result may differ in the last digits"


def test_live_progress_draws_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveProgress() as progress:
        for event in (STARTED, STEPPED, validated(20, 3.1, True)):
            progress.show(event)
    text = capsys.readouterr().err
    for part in ("step 20 of 100", "20%", "loss 3.250", "validation 3.100", "400 tokens/s", "1m 20s left"):
        assert part in text


WARNINGS: dict[Event, str] = {
    Rejected(
        step=8, checkpoint=Path("r/checkpoints/step-00000008"), reason='"r/checkpoints/step-00000008" is damaged'
    ): ('"r/checkpoints/step-00000008" is damaged; the next older checkpoint is looked at'),
    SKIPPED: "a loss of 9 at step 41: batch 41 is skipped; see r/incidents/x",
    RolledBack(step=20, from_step=45, skipped=(40, 41, 42)): (
        "went back from step 45 to step 20; 3 batches are not read again"
    ),
    Uncompiled(step=0, reason="cannot compile: no g++"): "cannot compile: no g++; the run goes on without",
    Waiting(step=20, reason="the Hub could not be reached; tried again in 4 s"): (
        "step 21 waits for text: the Hub could not be reached; tried again in 4 s"
    ),
    Unsaved(step=20, what="the checkpoint of step 20", reason='the disk is full: cannot write "r"'): (
        'the checkpoint of step 20 could not be saved: the disk is full: cannot write "r"; '
        "training goes on, saving is tried again"
    ),
}


@pytest.mark.parametrize("progress", [PlainProgress, LiveProgress])
@pytest.mark.parametrize("event", WARNINGS, ids=lambda event: type(event).__name__)
def test_what_went_wrong_is_a_warning_of_one_line(
    event: Event, progress: type[PlainProgress | LiveProgress], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress() as shown:
        shown.show(STARTED)
        shown.show(event)
    assert f"warning: {WARNINGS[event]}" in " ".join(capsys.readouterr().err.split())


def test_note_of_a_signal_handler_is_drawn_below_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveProgress() as progress:
        progress.show(STARTED)
        progress.note("Ctrl-C: saving, then stopping")
    assert capsys.readouterr().err.splitlines()[-1].strip() == "Ctrl-C: saving, then stopping"


def test_note_of_a_signal_handler_is_a_plain_line(capfd: pytest.CaptureFixture[str]) -> None:
    PlainProgress().note("Ctrl-C: saving, then stopping")
    assert capfd.readouterr().err == "\nCtrl-C: saving, then stopping\n"
