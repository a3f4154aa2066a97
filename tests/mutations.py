"""Small wrong changes, each of which the suite must catch: `make test-mutations`.

    python tests/mutations.py [WORD]      only the mutations whose file or name holds WORD

Each is made in a copy of the source, and the tests named beside it are run against that copy; they must pass without
the change and fail with it. Not collected by pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gemmazero"


@dataclass(frozen=True)
class Mutation:
    """Replace ``before``, which stands in ``file`` once, by ``after``; ``tests`` must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: str


MUTATIONS = (
    Mutation("norm forgets the 1 of 1 + weight", "model/norm.py",
             "(1.0 + weight.float())).to", "weight.float()).to", "tests/model/test_norm.py"),
    Mutation("norm takes the sum for the mean", "model/norm.py", ".mean(dim=-1", ".sum(dim=-1", "tests/model/test_norm.py"),
    Mutation("oneDNN multiplies where there is to be a gradient", "model/tall_linear.py",
             "and not torch.is_grad_enabled()", "", "tests/model/test_tall_linear.py"),
    Mutation("oneDNN multiplies in float32 under autocast", "model/tall_linear.py",
             "and not torch.is_autocast_enabled(\"cpu\")", "", "tests/model/test_tall_linear.py"),
    Mutation("oneDNN is never asked", "model/tall_linear.py",
             "onednn_linear(states, weight) if onednn_takes(states, weight) else ", "", "tests/model/test_tall_linear.py"),
    Mutation("rope turns the other way", "model/rope.py", "(-second, first)", "(second, -first)", "tests/model/test_rope.py"),
    Mutation("rope ignores linear scaling", "model/rope.py", "theta**exponents / factor", "theta**exponents",
             "tests/model/test_rope.py"),
    Mutation("sliding layers use the global base", "model/gemma.py",
             "config.rope_local_base_freq, 1.0", "config.rope_theta, 1.0", "tests/model/test_gemma.py"),
    Mutation("window one position too wide", "model/sight.py", "distance < window", "distance <= window",
             "tests/model/test_sight.py"),
    Mutation("a query does not see itself", "model/sight.py", "seen = (distance >= 0)", "seen = (distance > 0)",
             "tests/model/test_sight.py"),
    Mutation("a block does not see the one before", "model/sight.py", "return torch.cat((before, blocks), dim=-2)",
             "return torch.cat((0 * before, blocks), dim=-2)", "tests/model/test_attention.py"),
    Mutation("attention soft-cap left out", "model/attention.py", "if softcap is not None:\n        scores", "if False:\n        scores",
             "tests/model/test_attention.py tests/model/test_gemma.py"),
    Mutation("scores scaled by the head size", "model/attention.py", "config.query_pre_attn_scalar**-0.5",
             "config.head_dim**-0.5", "tests/model/test_gemma.py"),
    Mutation("embedding not scaled", "model/gemma.py", "self.config.hidden_size**0.5", "1.0", "tests/model/test_gemma.py"),
    Mutation("exact GELU for its tanh approximation", "model/gating.py", 'F.gelu(x, approximate="tanh")', "F.gelu(x)",
             "tests/model/test_gemma.py"),
    Mutation("final soft-cap left out", "model/gemma.py", "logits if cap is None else", "logits if True else",
             "tests/model/test_gemma.py"),
    Mutation("small products wake all threads", "inference/one_token.py", "if weight.numel() >= _WORTH_WAKING else 1", "",
             "tests/inference/test_one_token.py"),
    Mutation("the steady rate waits for the compiler", "inference/pace.py", "self.seconds - self.second_token_seconds",
             "self.seconds - self.first_token_seconds", "tests/inference/test_pace.py"),
    Mutation("a single token's queries not scaled", "inference/one_token.py", "[attention.scale] * queries",
             "[1.0] * queries", "tests/inference/test_one_token.py"),
    Mutation("a single token's scores not soft-capped", "inference/one_token.py", "if self._softcap is not None:",
             "if False:", "tests/inference/test_one_token.py"),
    Mutation("a step of 8 bits rounded down", "model/quantized.py", "rounded.float() < scale", "rounded.float() < 0",
             "tests/model/test_quantized.py"),
    Mutation("the kernel reads beyond a row", "model/quantized.py", "width % _KERNEL_STEP == 0", "True",
             "tests/model/test_quantized.py"),
    Mutation("cache keeps too little of the window", "model/cache.py", "self.window - 1)", "self.window - 2)",
             "tests/model/test_cache.py"),
    Mutation("cache forgets when it grows", "model/cache.py",
             "keys[:, :, :kept], values[:, :, :kept] = before", "pass", "tests/model/test_cache.py"),
    Mutation("a compiled token sees what slid out of its window", "inference/compiled_token.py", "(there >= first) & ", "",
             "tests/inference/test_compiled_token.py"),
    Mutation("a compiled token sees the padding", "inference/compiled_token.py", ">= padding[:, None]",
             ">= 0 * padding[:, None]", "tests/inference/test_compiled_token.py"),
    Mutation("a compiled token's buffers are lent twice", "inference/compiled_token.py", "free.pop() if free",
             "free[-1] if free", "tests/inference/test_compiled_token.py"),
    Mutation("a compiled token takes new buffers for each text", "inference/compiled_token.py", "free.append, buffers",
             "list, buffers", "tests/inference/test_compiled_token.py"),
    Mutation("a compiled token's buffers hold what was", "inference/compiled_token.py", "keys.zero_(), values.zero_()",
             "pass", "tests/inference/test_compiled_token.py"),
    Mutation("machine code sees what slid out of its window", "inference/native_step.py", "here + 1 - window for", "0 for",
             "tests/inference/test_native_step.py"),
    Mutation("machine code sees the padding", "inference/native_step.py", "[here - position for", "[0 for",
             "tests/inference/test_native_step.py"),
    Mutation("machine code's scores not soft-capped", "inference/native_step.cpp",
             "capped(score * model.scale, model.attention_softcap)", "score * model.scale",
             "tests/inference/test_native_step.py"),
    Mutation("machine code's logits not soft-capped", "inference/native_step.cpp", "capped(product, model.final_softcap)",
             "product", "tests/inference/test_native_step.py"),
    Mutation("sums of 8-bit products overflow", "inference/native_step.cpp", "STRETCH = 512", "STRETCH = 4096",
             "tests/inference/test_native_step.py"),
    Mutation("all heads share the first group's keys", "inference/native_step.cpp", "head / (model.heads / model.groups)",
             "0", "tests/inference/test_native_step.py"),
    Mutation("values of another group", "inference/native_step.cpp", "x[model.groups * size + k]", "x[size + k]",
             "tests/inference/test_native_step.py"),
    Mutation("threads write into one another's text", "inference/native_step.py",
             "type(self._layers).from_buffer_copy(self._layers)", "self._layers", "tests/inference/test_native_step.py"),
    Mutation("threads do not meet", "inference/native_step.cpp", "waiting.fetch_add(1) + 1 == size", "true",
             "tests/inference/test_native_step.py"),
    Mutation("machine code of another processor", "native_code.py", "source.read_bytes(), instructions, ",
             "source.read_bytes(), ", "tests/test_native_code.py"),
    Mutation("a fused loss wants no token", "training/loss.py", "(powers / total - is_wanted.float())", "(powers / total)",
             "tests/training/test_loss.py"),
    Mutation("padding is attended to", "model/sight.py", "real = keys >= padding[:, None]",
             "real = keys >= 0 * padding[:, None]", "tests/model/test_cache.py"),
    Mutation("loss keeps the last chunk's gradient alone", "training/loss.py", "weight_gradient.addmm_(gradient.T, some)",
             "weight_gradient = gradient.T @ some", "tests/training/test_loss.py"),
    Mutation("loss forgets the soft-cap's derivative", "training/loss.py", "gradient.addcmul_(gradient, capped.square_(), value=-1)",
             "pass", "tests/training/test_loss.py"),
    Mutation("warm-up starts a step late", "training/optimizer.py", "peak * step / config.warmup_steps",
             "peak * (step - 1) / config.warmup_steps", "tests/training/test_optimizer.py"),
    Mutation("cosine ends at zero, not at the minimum", "training/optimizer.py", "peak + (least - peak) * fall",
             "peak - peak * fall", "tests/training/test_optimizer.py"),
    Mutation("embeddings decay", "training/optimizer.py", '[*norms, *embeddings], "weight_decay": 0.0',
             '[*norms, *embeddings], "weight_decay": config.weight_decay', "tests/training/test_optimizer.py"),
    Mutation("a tied embedding keeps 32-bit moments", "training/optimizer.py", "if heads else (embeddings, [])",
             "if heads else ([], embeddings)", "tests/training/test_optimizer.py"),
    Mutation("micro-batches are averaged over themselves", "training/trainer.py", "multiplier=scale / count",
             "multiplier=scale / targets.numel()", "tests/training/test_trainer.py"),
    Mutation("an overflow skips the batch", "training/trainer.py", "            loss, gradient_norm = self._gradient()\n        return",
             "            self.batch += 1\n            loss, gradient_norm = self._gradient()\n        return",
             "tests/training/test_trainer.py"),
    Mutation("top-p drops the token that reaches it", "inference/sampling.py",
             "likeliest.cumsum(dim=-1) - likeliest < top_p", "likeliest.cumsum(dim=-1) < top_p",
             "tests/inference/test_sampling.py"),
    Mutation("the penalty rewards negative logits", "inference/sampling.py", "(scores * penalty).where(scores < 0",
             "(scores / penalty).where(scores < 0", "tests/inference/test_sampling.py"),
    Mutation("a stop text is written out", "inference/stopping.py", "certain = len(text) - max(",
             "certain = len(text) - 0 * max(", "tests/inference/test_stopping.py"),
    Mutation("a separator across two chunks is missed", "data/text_reader.py", "        rest += more\n", "        yield decoded(rest)\n        rest = more\n",
             "tests/data/test_text_reader.py"),
    Mutation("a row of CSV that lost text is taken", "data/csv_reader.py", "if len(row) == len(header):", "if len(row) > place:",
             "tests/data/test_csv_reader.py"),
    Mutation("JSON of invalid bytes is mended silently", "data/json_reader.py", '("surrogateescape")', '("replace")',
             "tests/data/test_json_reader.py"),
    Mutation("ids that spell no text are mended silently", "data/token_reader.py", 'return None if "\\ufffd" in text and', 'return None if False and',
             "tests/data/test_token_reader.py"),
    Mutation("a damaged file of the Hub is believed", "hub.py", "if Content.of_file(path).matches(Content.told(entry)):", "if True:",
             "tests/data/test_hub_tokenizer.py"),
    Mutation("copies that would leak stay", "data/corpus.py", "return seen.add(digests) & ~is_held_out", "return seen.add(digests)",
             "tests/data/test_corpus.py"),
    Mutation("who goes on writes again what is written", "data/shard_writer.py", "ids[self._written - self.tokens :]",
             "ids[0:]", "tests/data/test_shard_writer.py"),
    Mutation("notes of anything are gone on with", "data/journal.py", "if making.get(name) != self._making.get(name):",
             "if False:", "tests/data/test_journal.py"),
    Mutation("the newest block is the first to be written", "data/encoders.py", "waiting.popleft()", "waiting.pop()",
             "tests/data/test_encoders.py"),
    Mutation("a document that holds the end's text is joined", "data/vocabulary.py",
             "if joined.count(END_OF_DOCUMENT) == len(texts):", "if True:", "tests/data/test_vocabulary.py"),
    Mutation("every epoch has the same order", "data/batches.py", 'f"order {self._seed} {epoch}"',
             'f"order {self._seed}"', "tests/data/test_batches.py"),
    Mutation("the permutation leaves its range", "data/batches.py", "places >= size", "places > size",
             "tests/data/test_batches.py"),
    Mutation("targets are the ids themselves", "data/batches.py", "tokens[:, :-1].clone(), tokens[:, 1:].clone()",
             "tokens[:, :-1].clone(), tokens[:, :-1].clone()", "tests/data/test_batches.py"),
    Mutation("a document looks at the one before it", "model/sight.py", "documents[:, None, :, None] == documents",
             "documents[:, None, :, None] >= documents", "tests/model/test_packed_documents.py"),
    Mutation("a bookmark forgets what was read of a document", "data/stream.py", "token=self.mark.token + tokens", "token=tokens",
             "tests/data/test_stream.py"),
    Mutation("every block of a stream has the same order", "data/stream.py", "{place.epoch} {place.part} {place.document}", "",
             "tests/data/test_stream.py"),
    Mutation("held-out text of a stream is learned from", "data/stream.py", "if digest(ids) not in self._held_out:", "if True:",
             "tests/data/test_stream.py"),
    Mutation("a source that breaks off is read twice", "data/patient_reader.py", "place = replace(here, document=here.document + 1)",
             "pass", "tests/data/test_patient_reader.py"),
    Mutation("a feed takes the wrong batch for the next", "data/feed.py", "if self._reading is None or self._next != number:",
             "if self._reading is None:", "tests/data/test_feed.py"),
    Mutation("the checkpoint forgets the batch index", "training/trainer.py", '"batch": self.batch', '"batch": 0',
             "tests/test_resume.py"),
    Mutation("the optimizer's state is not restored", "training/trainer.py",
             'self.optimizer.load_state_dict(tensors["optimizer"])', "pass", "tests/test_resume.py"),
    Mutation("the random state is not restored", "training/trainer.py",
             'torch.set_rng_state(tensors["random"]["cpu"])', "pass", "tests/test_resume.py"),
    Mutation("verifying compares nothing", "storage/checkpoint.py", "if not is_as_it_was:", "if False:",
             "tests/storage/test_checkpoint.py"),
    Mutation("retention removes the best", "storage/checkpoints.py", "if step not in kept:", "if True:",
             "tests/storage/test_checkpoints.py"),
    Mutation("retention counts damaged checkpoints", "storage/checkpoints.py", "self.is_good(step) and self.leads_on(step)",
             "self.leads_on(step)", "tests/storage/test_checkpoints.py"),
    Mutation("a manifest is not sealed", "storage/checkpoint.py", "if _sealed(manifest).encode() != text:",
             "if False:", "tests/storage/test_checkpoint.py"),
    Mutation("a link in a checkpoint is followed", "storage/checkpoint.py", "if path.is_symlink() or not", "if not",
             "tests/storage/test_checkpoint.py"),
    Mutation("a checkpoint is not verified before it takes its name", "storage/checkpoint.py",
             "        sync_all(folder)\n        Checkpoint.open(folder).verify()", "        sync_all(folder)",
             "tests/storage/test_checkpoint.py"),
    Mutation("a damaged newest checkpoint begins the run anew", "storage/checkpoints.py", "        if passed_over:", "        if False:",
             "tests/test_recovery.py"),
    Mutation("the end of a shorter run is gone on from", "run_config.py", "step <= self.extensions[known].step", "True",
             "tests/test_run_config.py tests/test_extension.py"),
    Mutation("an extended cosine is stretched", "run_config.py", "self.extensions[0].steps_before if", "self.train.steps if",
             "tests/test_run_config.py"),
    Mutation("a rollback reads the bad data again", "training/guard.py", "trainer.batch, trainer.skips, trainer.rollbacks, trainer.skipped_in_a_row = batch,",
             "trainer.skips, trainer.rollbacks, trainer.skipped_in_a_row =", "tests/training/test_guard.py"),
    Mutation("a rollback goes to the newest checkpoint", "training/guard.py", "if not anchor or (checkpoints.is_good(anchor) and", "if not anchor or (False and",
             "tests/training/test_guard.py"),
    Mutation("a rollback is forgotten by the metrics", "training/guard.py", "        self._record.roll_back(step)\n", "",
             "tests/training/test_guard.py"),
    Mutation("a bad batch lowers the loss scale", "training/trainer.py", "        self.precision.restart_scaler(attempt.scaler)\n", "",
             "tests/training/test_trainer.py"),
    Mutation("a spike is measured by its mean alone", "training/guard.py", "max(SPIKE_NATS, SPIKE_DEVIATIONS * deviation)", "SPIKE_NATS",
             "tests/training/test_guard.py"),
    Mutation("a failed save counts as saved", "training/loop.py", "if isinstance(saved, Saved):", "if True:",
             "tests/training/test_loop.py"),
    Mutation("a torn line stays in the metrics", "training/record.py", "file.truncate(self._size)", "pass",
             "tests/training/test_record.py tests/test_disk.py"),
    Mutation("a run begins anew where its checkpoints are gone", "training/run.py", "if is_known and not steps and (has_saved(folder)",
             "if False and (has_saved(folder)", "tests/training/test_run.py"),
    Mutation("a state is believed for its sum", "storage/checkpoints.py", "            check_state(checkpoint)\n", "",
             "tests/storage/test_state_check.py"),
    Mutation("a time limit lasts beyond its session", "training/settings.py", "recorded = dataclasses.replace(recorded, max_time=None, hub_overwrite=False)", "pass",
             "tests/training/test_settings.py"),
    Mutation("a folder moved aside does not come back", "folder.py", "replaced.rename(final)", "pass", "tests/test_folder.py"),
    Mutation("half-written parts stay", "folder.py", "        _remove(temporary)\n        if os.path",
             "        if os.path", "tests/test_folder.py"),
    Mutation("half of a folder that was replaced comes back", "folder.py", "            replaced.rename(temporary)\n            _remove(temporary)",
             "            _remove(replaced)", "tests/test_folder.py"),
    Mutation("a damaged step is pushed", "storage/push.py", "sums.get(content, contents[path].sha256) != contents[path].sha256", "False",
             "tests/test_hub_storage.py"),
    Mutation("freeing lists what may be deleted last", "hub_repo.py", "for file in kept if", "for file in api.list_lfs_files(self.name) if",
             "tests/test_hub_repo.py"),
    Mutation("two processes hold one lock", "lock.py", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "tests/test_lock.py"),
    Mutation("the scaler's state is not restored", "training/trainer.py",
             'self.precision.restart_scaler(record["scaler"])', "pass", "tests/test_resume.py"),
    Mutation("Muon forgets the momentum", "training/muon.py", "lerp_(matrix.grad, 1 - _MOMENTUM)", "copy_(matrix.grad)",
             "tests/training/test_muon.py"),
    Mutation("Muon's step does not grow with the matrix", "training/muon.py", "* max(rows, columns) ** 0.5", "",
             "tests/training/test_muon.py"),
    Mutation("wsd decays from the warm-up on", "training/optimizer.py", 'if config.schedule == "wsd":', "if False:",
             "tests/training/test_optimizer.py"),
    Mutation("top-k keeps the first alone", "inference/sampling.py", "values[:, -1:]", "values[:, :1]",
             "tests/inference/test_sampling.py"),
    Mutation("min-p is a share of one", "inference/sampling.py", "probabilities < least", "probabilities < self.min_p",
             "tests/inference/test_sampling.py"),
    Mutation("the worst checkpoint is the best", "training/validation.py", "evaluation.loss < best.loss",
             "evaluation.loss > best.loss", "tests/training/test_validation.py"),
    Mutation("an unreachable Hub is an empty one", "hub_repo.py", 'if error.kind == "absent":\n                return None',
             'if error.kind != "conflict":\n                return None', "tests/test_hub_repo.py"),
    Mutation("freeing looks at the heads alone", "hub_repo.py", "for sha in commits | heads:", "for sha in heads:",
             "tests/test_hub_repo.py"),
    Mutation("a download is not compared", "hub_repo.py", "if not Content.of_file(folder / path).matches(content):",
             "if False:", "tests/test_hub_repo.py"),
    Mutation("a state that has parted is overwritten", "storage/lineage.py", "if common == len(other.history):", "if True:",
             "tests/storage/test_lineage.py"),
    Mutation("a state that lost its manifest is none", "storage/remote_state.py", "if MANIFEST not in files and _is_of_main(repo, files):",
             "if MANIFEST not in files:", "tests/training/test_mirroring_refusals.py"),
    Mutation("overwriting loses a newer state", "storage/push.py", "if not self._overwrites or state.comes_after(snapshot.state):",
             "if not self._overwrites:", "tests/training/test_mirroring_refusals.py"),
    Mutation("a README by hand is replaced", "storage/push.py", "keeps_card = CARD in there and not", "keeps_card = False and not",
             "tests/training/test_mirroring_refusals.py"),
    Mutation("another run comes after", "storage/lineage.py", "if self.config.run_id != other.config.run_id:", "if False:",
             "tests/storage/test_lineage.py"),
    Mutation("every state waits to be pushed", "storage/mirror.py", "            replaced.discard()\n\n    def _work",
             "            pass\n\n    def _work", "tests/storage/test_mirror.py"),
    Mutation("evaluation drops the last partial window", "evaluation/perplexity.py",
             "-(-(len(shards) - 1) // sequence_length)", "(len(shards) - 1) // sequence_length",
             "tests/evaluation/test_perplexity.py"),
)  # fmt: skip


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutation for mutation in MUTATIONS if word in mutation.name or word in mutation.file]
    for mutation in chosen:
        if (times := (SOURCE / mutation.file).read_text(encoding="utf-8").count(mutation.before)) != 1:
            sys.exit(f'"{mutation.before}" stands {times} times in {mutation.file}, not once')
    for tests in sorted({mutation.tests for mutation in chosen}):
        if run_tests(SOURCE.parent, tests) != 0:
            sys.exit(f"{tests} must pass before anything is changed")
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, chosen))
    width = max(len(mutation.name) for mutation in chosen)
    for mutation, caught in zip(chosen, outcomes, strict=True):
        print(f"{'caught ' if caught else 'MISSED '} {mutation.name:{width}}  {mutation.file}")
    print(f"{sum(outcomes)} of {len(outcomes)} mutations caught")
    sys.exit(0 if all(outcomes) else 1)


def outcome(mutation: Mutation) -> bool:
    """Whether the tests fail against a copy of the source with the mutation made."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "src", "gemmazero")
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / mutation.file
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
        return run_tests(copy.parent, mutation.tests) == 1


def run_tests(source: Path, tests: str) -> int:
    """pytest's exit status: 0 all passed, 1 some failed."""
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode


if __name__ == "__main__":
    main()
