"""Do intervals, boards, corrected winners and claims do what docs/statistics.md says? With the report's own code.

python benchmarks/statistics_check.py [--seed N] [--out FILE] [--share S]: cohorts of known truth, a fresh seed.
Every line is written to FILE as it ends; an unfinished FILE is gone on with. --share .1 simulates a tenth of it.
A rate passes when it is within its limits, or outside them by no more than chance would bring in one of 100 runs.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import simulated as world

from harness.files import read_json, write_json
from harness.inference.intervals import Spread, interval, minus, spread_of
from harness.inference.selection import corrected_winner
from harness.inference.sequential import Verdict, look_sizes, verdict
from harness.inference.simultaneous import against_leader

Random = np.random.Generator
CHANCE = 2.33  # standard errors: one run in 100
PRESENT_IN = 15  # patients with a class, for its interval to be held to its word
MOST_SEEDS = 12
EPOCHS = 4


def coverage(random: Random, sets: int, *, patients: int, icc: float) -> dict[str, Any]:
    """How often the 95 % intervals hold the truth: of the mean, and of classes in 15 or more patients.

    Of 15 patients each has every class: picking the cohorts in which a class happens to be in all of them would pick
    cohorts without the false positives of patients who lack it, which score better than patients do on average.
    """
    present_in = 1.0 if patients == PRESENT_IN else world.PRESENT
    true = world.truth_of((0.0,), icc, present_in)[0]
    inside: list[bool] = []
    classes: list[bool] = []
    for _ in range(sets):
        hits, sizes = world.models(random, patients, np.zeros(1), icc=icc, present_in=present_in)
        counts = world.ratios(hits, sizes)[0]
        spread = spread_of(counts)
        if spread is None:
            continue
        inside.append(_holds(spread, true.mean()))
        for name, value, own in zip(world.CLASSES, true, hits[0].T, strict=True):
            one = spread_of(counts.of_class(name)) if (own > 0).sum() >= PRESENT_IN else None
            if one is not None:
                classes.append(_holds(one, value))
    found = {"mean": float(np.mean(inside)), "classes": float(np.mean(classes)) if classes else None}
    rates = [(found["mean"], len(inside)), *([(found["classes"], len(classes))] if classes else [])]
    return found | {"passed": all(_within(rate, n, 0.93, 0.97) for rate, n in rates)}


def boards(random: Random, sets: int, *, patients: int) -> dict[str, Any]:
    """20 equal models: how often any is told from the leader. 20 of a planted order: how often the best one is."""
    false = lost = 0
    for _ in range(sets):
        false += any(_told(random, patients, np.zeros(20)))
        lost += _told(random, patients, np.linspace(0.3, 0.0, 20))[0]
    found = {"false_loser": false / sets, "best_lost": lost / sets}
    return found | {"passed": all(_within(rate, sets, 0.0, 0.05) for rate in found.values())}


def winners(random: Random, sets: int, *, models: int, spread: float) -> dict[str, Any]:
    """How much better the best of N models at 4 epochs looks than it is on 20 patients, raw and corrected."""
    raw, corrected = [], []
    for _ in range(sets):
        shifts = random.normal(0, spread, models)
        hits, sizes = world.checkpoints(random, *world.models(random, 20, shifts), EPOCHS)
        found = corrected_winner(world.ratios(hits, sizes), seed=int(random.integers(1 << 30)))
        if found is None:
            continue
        picked = int(world.scores(hits, sizes).argmax()) % models
        true = float(world.true_scores(shifts[[picked]])[0])
        raw.append(found.raw - true)
        corrected.append(found.corrected - true)
    error = float(np.std(corrected, ddof=1)) / math.sqrt(len(corrected))
    gap, optimism = float(np.mean(corrected)), float(np.mean(raw))
    near = abs(gap) <= 0.005 + CHANCE * error and abs(gap) <= optimism / 3 + CHANCE * error
    return {"raw": optimism, "corrected": gap, "error": error, "passed": near}


def claims(random: Random, sets: int, *, patients: int, seed_sd: float, gain: float) -> dict[str, Any]:
    """Verdicts on "A > B by 0" with looks after 3, 4, 5, 6, 8, 10, 12 seeds, where A is better by `gain`.

    `seed_sd`: how far a seed moves a model on the logit scale; .1 moves its score by about .016.
    """
    shift, words, seeds = world.shift_for(gain), [], []
    for _ in range(sets):
        moved = random.normal(0, seed_sd, 2 * MOST_SEEDS) + np.repeat([shift, 0.0], MOST_SEEDS)
        sides = [0] * MOST_SEEDS + [1] * MOST_SEEDS
        spreads = [spread_of(one) for one in world.ratios(*world.models(random, patients, moved, families=sides))]
        known = [spread for spread in spreads if spread is not None]
        if len(known) < len(spreads):
            continue
        pairs = [minus(*pair) for pair in zip(known[:MOST_SEEDS], known[MOST_SEEDS:], strict=True)]
        said = _stopped(pairs)
        words.append(said.word)
        seeds.append(said.seeds)
    supported, refuted = (words.count(word) / len(words) for word in ("supported", "refuted"))
    wrong = refuted if gain else supported + refuted
    found = {"supported": supported, "refuted": refuted, "wrong": wrong, "seeds": float(np.mean(seeds))}
    return found | {"passed": _within(wrong, len(words), 0.0, 0.05)}


Part = Callable[..., dict[str, Any]]
# (part, sets, settings).
PLAN: tuple[tuple[Part, int, dict[str, Any]], ...] = (
    *((coverage, 10_000, {"patients": p, "icc": icc}) for p in (8, 15, 20, 30, 60) for icc in (0.0, 0.25, 0.5)),
    *((boards, 1000, {"patients": p}) for p in (8, 15, 30, 60)),
    *((winners, 4000, {"models": n, "spread": s}) for n in (10, 50) for s in (0.0, 0.1)),
    *((winners, 2000, {"models": 200, "spread": s}) for s in (0.0, 0.1)),
    *((claims, 4000, {"patients": p, "seed_sd": sd, "gain": 0.0}) for p in (8, 15, 30, 60) for sd in (0.03, 0.1, 0.3)),
    *((claims, 1000, {"patients": p, "seed_sd": sd, "gain": 0.02}) for p in (15, 30, 60, 120) for sd in (0.03, 0.1)),
)


def line_of(index: int, seed: int, share: float) -> dict[str, Any]:
    """One line of the plan, simulated."""
    part, sets, settings = PLAN[index]
    sets, started = max(round(sets * share), 20), time.monotonic()
    found = part(np.random.default_rng([seed, index]), sets, **settings)
    seconds = round(time.monotonic() - started, 1)
    return {"part": part.__name__, **settings, "sets": sets, **found, "seconds": seconds}


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate what FILE does not hold yet; 1 when a line fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a fresh one")
    parser.add_argument("--out", type=Path, default=Path("build/statistics.json"))
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args(argv)
    document = _opened(asked.out, asked.seed, asked.share)
    lines: dict[str, Any] = document["lines"]
    missing = [index for index in range(len(PLAN)) if str(index) not in lines]
    print(f"seed {document['seed']}, {len(missing)} of {len(PLAN)} lines to simulate, into {asked.out}", flush=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        # The slowest first, so that no process is left alone with one at the end.
        asked_for = {pool.submit(line_of, i, document["seed"], document["share"]): i for i in reversed(missing)}
        for ended in as_completed(asked_for):
            index = asked_for[ended]
            lines[str(index)] = ended.result()
            write_json(asked.out, document)
            print(_text(lines[str(index)]), flush=True)
    failed = [line for line in lines.values() if not line["passed"]]
    for line in failed:
        print(f"FAILED {_text(line)}")
    print(f"{len(lines) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _opened(file: Path, seed: int | None, share: float) -> dict[str, Any]:
    """The unfinished file of the same question, else a new document."""
    if file.exists():
        found: dict[str, Any] = read_json(file)
        if found["share"] == share and seed in (None, found["seed"]) and len(found["lines"]) < len(PLAN):
            return found
    file.parent.mkdir(parents=True, exist_ok=True)
    return {"seed": secrets.randbelow(1 << 31) if seed is None else seed, "share": share, "lines": {}}


def _holds(spread: Any, true: float) -> bool:
    known = interval(spread)
    return bool(known.low <= true <= known.high)


def _told(random: Random, patients: int, shifts: world.Array) -> list[bool]:
    spreads = [spread_of(one) for one in world.ratios(*world.models(random, patients, shifts))]
    known = [spread for spread in spreads if spread is not None]
    if len(known) < len(spreads):
        return [False] * len(shifts)
    leader = int(np.argmax([spread.score for spread in known]))
    return [bool(row.told_apart) for row in against_leader(known, leader=leader, seed=int(random.integers(1 << 30)))]


def _stopped(differences: Sequence[Spread]) -> Verdict:
    """The verdict when a controller stops: decided, or when further seeds would not decide."""
    for seeds in look_sizes(len(differences)):
        said = verdict(differences[:seeds], 0.0)
        if said.word != "undecided" or said.hopeless:
            break
    return said


def _within(rate: float | None, number: int, low: float, high: float) -> bool:
    """Whether a rate among so many is inside, or outside by chance."""
    assert rate is not None
    return all(
        sign * (rate - limit) <= CHANCE * math.sqrt(limit * (1 - limit) / number)
        for sign, limit in ((-1, low), (1, high))
    )


def _text(line: dict[str, Any]) -> str:
    shown = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in line.items())
    return ", ".join(shown)


if __name__ == "__main__":
    sys.exit(main())
