"""Feed hostile inputs to the program and tell what came of each, a JSON line each: ``python -m hostile WORLD``."""

import argparse
import dataclasses
import gc
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401 - what a process that is forked finds imported is no growth of its own
import torch._dynamo  # noqa: F401 - which torch's optimizers import

from hostile.corpus import CORPUS, controls, sampled
from hostile.entries import ENTRIES
from hostile.feeding import Fed, feed
from hostile.fuzz import TARGETS, fuzz
from hostile.world import make_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path, help="a folder of good inputs; made where it is not there")
    parser.add_argument("--sample", type=int, help="so many cases, drawn from all, and not all of them")
    parser.add_argument("--changes", type=int, default=0, help="so many random changes of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, and of the changes")
    parser.add_argument("--only", default="", help="what has this text in its id")
    parser.add_argument("--share", default="0/1", help="which of how many parts of all that")
    arguments = parser.parse_args()
    if not arguments.world.exists():
        make_world(arguments.world)
    ENTRIES["evaluate"](arguments.world, arguments.world)  # what loads at first use is loaded once, not in each fork
    gc.freeze()  # a fork's memory stays this process's
    share, shares = map(int, arguments.share.split("/"))
    for group, feeding in _all(arguments)[share::shares]:
        print(json.dumps({"group": group} | dataclasses.asdict(feeding())), flush=True)


def _all(arguments: argparse.Namespace) -> list[tuple[str, Callable[[], Fed]]]:
    """What is fed, and whether that is good, bad, or changed at random."""
    world, seed, only = arguments.world, arguments.seed, arguments.only
    groups = {"good": controls(), "bad": CORPUS if arguments.sample is None else sampled(arguments.sample, seed)}
    cases = [(group, case) for group, cases in groups.items() for case in cases if only in case.id]
    targets = [target for target in TARGETS if arguments.changes and only in target.id]
    return [
        *((group, partial(feed, case, world)) for group, case in cases),
        *(("changed", partial(fuzz, target, world, seed, arguments.changes)) for target in targets),
    ]


if __name__ == "__main__":
    main()
