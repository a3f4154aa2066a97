import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import gemmazero
from gemmazero.config import TrainConfig
from gemmazero.data.prepare import default_folder
from gemmazero.errors import DataError, UsageError
from gemmazero.training.events import Saved
from gemmazero.training.optimizer import decay_start
from gemmazero.training.plan import most_kept
from program import run_forked
from tiny_run import MODEL, SETTINGS

KEYS = {
    "run", "preset", "device", "precision", "threads", "batch_size", "micro_batch_size", "sequence_length",
    "parameters", "vocabulary", "vocabulary_is_assumed", "steps", "tokens", "flops", "memory", "memory_free",
    "checkpoint_bytes", "data_bytes", "disk_bytes", "seconds_per_step", "seconds", "tokens_per_second", "mfu", "fits",
    "uncompiled_because",
}  # fmt: skip
PARTS = {"process", "parameters", "gradients", "optimizer", "activations", "logits", "total"}
ARGUMENTS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]


def test_dry_run_prints_one_object_with_stable_keys_and_writes_nothing(
    tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    command = ["train", "--preset", tiny_preset, "--data", tiny_data, "--dry-run", "--json", *ARGUMENTS]
    done = run_forked(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan.keys(), plan["memory"].keys()) == (KEYS, PARTS)
    assert sorted(tmp_path.rglob("*")) == before
    assert (plan["parameters"], plan["vocabulary"], plan["vocabulary_is_assumed"]) == (MODEL.parameters, 257, False)
    assert (plan["tokens"], plan["steps"], plan["fits"], plan["mfu"]) == (6 * 4 * 16, 6, True, None)
    assert plan["memory"]["total"] > sum(plan["memory"][part] for part in PARTS - {"total", "gradients", "logits"})


def test_plan_says_what_the_run_keeps_on_the_disk(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    training = gemmazero.train(preset=str(tiny_preset), data=tiny_data, out=tmp_path / "run", **SETTINGS)
    plan = training.plan()
    training.run()
    checkpoints = list((tmp_path / "run" / "checkpoints").iterdir())
    kept = sum(file.stat().st_size for folder in checkpoints for file in folder.rglob("*.safetensors"))
    assert plan.data_bytes == sum(file.stat().st_size for file in tiny_data.iterdir() if file.name != "manifest.json")
    assert plan.checkpoint_bytes == pytest.approx(kept / len(checkpoints), rel=0.1)
    assert plan.disk_bytes == plan.data_bytes + 3 * plan.checkpoint_bytes  # the newest two, and the best
    assert plan.seconds is not None
    assert plan.seconds_per_step is not None
    assert plan.seconds > 6 * plan.seconds_per_step


def possible_best(config: TrainConfig, until: int) -> list[int]:
    return [step for step in range(1, until + 1) if step % config.validate_every == 0 or step == config.steps]


def kept_at_most(config: TrainConfig) -> int:
    """Step by step, whichever validations are the best ones."""
    hold = decay_start(config.steps) if config.schedule == "wsd" else 0
    saved = {*range(config.save_every, config.steps + 1, config.save_every), *possible_best(config, config.steps), hold}
    most = 0
    for step in sorted(saved - {0}):
        newest = sorted(one for one in saved - {0} if one <= step)[-config.keep :]
        anchor = step - step % config.validate_every
        after = [one for one in possible_best(config, step) if one > hold]
        for best in possible_best(config, step) or [0]:
            before = [best] if best not in after or step < hold else possible_best(config, hold) or [0]
            kept = [{*newest, best, one, anchor, hold if hold <= step else 0} - {0} for one in before]
            most = max(most, *map(len, kept))
    return most


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_no_run_keeps_more_checkpoints_than_planned_and_few_plans_more_than_a_run_may_keep(schedule: str) -> None:
    chance, surplus = random.Random(0), []
    for _ in range(500):
        save, validate, keep = (chance.randint(1, most) for most in (9, 9, 4))
        settings = {"steps": chance.randint(1, 30), "save_every": save, "validate_every": validate, "keep": keep}
        config = TrainConfig(warmup_steps=0, schedule=schedule, **settings)
        surplus.append(most_kept(config) - kept_at_most(config))
    assert min(surplus) == 0
    assert max(surplus) <= 2
    assert surplus.count(0) > 300


def test_plan_of_a_run_longer_than_any_does_not_look_at_every_step() -> None:
    longest = TrainConfig(steps=2**31 - 1, save_every=1, validate_every=7)
    assert most_kept(longest) == longest.keep + 2
    assert most_kept(replace(longest, schedule="wsd")) == longest.keep + 4
    assert most_kept(replace(longest, save_every=7)) == longest.keep + 1


def test_a_run_keeps_as_many_checkpoints_as_planned(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"steps": 20, "schedule": "wsd", "keep": 1, "save_every": 1, "validate_every": 3}
    training = gemmazero.train(preset=str(tiny_preset), data=tiny_data, out=tmp_path / "run", **settings)
    seen = [len(list((tmp_path / "run" / "checkpoints").iterdir())) for event in training if isinstance(event, Saved)]
    assert max(seen) <= most_kept(TrainConfig(**settings)) == 5
    assert max(seen) >= 4  # however good the best ones are


@pytest.mark.parametrize(
    ("given", "size"), [({}, 1024), ({"stream": True, "tokenizer": "bytes"}, 257), ({"stream": True}, 1024)]
)
def test_data_is_not_prepared_for_a_plan_and_its_vocabulary_is_assumed(
    given: dict[str, object], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(MODEL.to_json()))
    plan = gemmazero.train(preset=str(config), data="sample", **SETTINGS, **given).plan()
    assert (plan.vocabulary, plan.vocabulary_is_assumed, plan.data_bytes) == (size, True, None)
    assert not default_folder("sample").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


def test_settings_that_do_not_fit_together_are_refused(tiny_data: Path, tiny_preset: Path) -> None:
    with pytest.raises(UsageError, match="longer than the model's context"):
        gemmazero.train(preset=str(tiny_preset), data=tiny_data, sequence_length=65).plan()


def test_plan_takes_up_the_tokenizer_that_a_run_would_hold(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="tokenizer"):
        gemmazero.train(preset=str(tiny_preset), data=data, **SETTINGS).plan()


def test_what_is_left_of_a_run_is_not_planned_as_another_one(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(UsageError, match="not of what is left"):
        gemmazero.resume(tmp_path).plan()
