"""Kill training processes in the middle of everything, and see that nothing is lost: ``make test-crash``."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from crash.bugs import FAILED, noticed_of_each
from crash.campaign import Campaign
from crash.course import PREPARING, VARIANTS
from crash.report import LEAST_KILLS, shortfalls, tables


def main() -> int:
    """0 where no run was harmed and every promise of the plan was kept."""
    parser = argparse.ArgumentParser(prog="python -m crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="a sample of the plan, or more than it needs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", default="", help="only those whose name holds one of these words, with commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--phases", default="", help="only kills in phases whose name holds one of these words")
    parser.add_argument("--bugs", action="store_true", help="then see that deliberate bugs are noticed")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # a process with threads cannot be forked
        os.environ[name] = "1"
    started = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    variants = [one for one in (*VARIANTS, PREPARING) if _holds(one.name, options.variants)]
    campaign = Campaign(Path(tempfile.mkdtemp(prefix="crash-")), variants, options.seed, options.processes)
    seen = campaign.fight(options.kills, is_wanted=lambda instant: _holds(instant.phase, options.phases))
    print(tables(seen), f"{(time.monotonic() - started) / 60:.0f} minutes", sep="\n")
    failures = seen.problems + ([] if 0 < options.kills < LEAST_KILLS else list(shortfalls(seen)))
    if options.bugs:
        noticed = noticed_of_each()
        print(*(f"noticed: {bug}" for bug, told in noticed.items() if told), sep="\n")
        failures += [f"nobody notices this bug: {bug}" for bug, told in noticed.items() if not told]
    print(*(f"{FAILED}{failure}" for failure in failures), sep="\n")
    return 1 if failures else 0


def _holds(name: str, words: str) -> bool:
    return any(word in name for word in words.split(","))


if __name__ == "__main__":
    sys.exit(main())
