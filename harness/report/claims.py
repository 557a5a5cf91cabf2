"""What became of the claims of the YAML: verdict, difference, what would settle it, and a sentence for the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.knobs import label_of
from harness.errors import ClaimRefuted
from harness.files import read_json
from harness.inference.claims import Arm, Contest, Outcome, evidence, outcome_of
from harness.inference.intervals import MIN_PATIENTS, Interval
from harness.inference.sequential import Verdict
from harness.report.boards import FEW_PATIENTS
from harness.report.queries import Sweep, Trial
from harness.report.scored import DOCUMENT_ERRORS
from harness.report.wording import difference_text, interval_text, listed, metric_text, plural, setting_text, value_text
from harness.sweep.layout import GenerationFolder


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim and what its runs say."""

    text: str
    stated_after: int | None  # completed trials when it was first read; None before that
    verdict: Verdict
    sentence: str
    cells: tuple[str, ...]  # one line each: what the two sides have in common
    methods: str  # a draft for the paper; empty before the first look


def findings(sweep: Sweep) -> tuple[Finding, ...]:
    """One per claim of the space, in its order."""
    contests = {contest.text: contest for contest in _contests(sweep)}
    runs = {(trial.replicate_of, trial.seed): trial for trial in sweep.trials if trial.replicate_of}
    patients = len((sweep.data.get("split") or {}).get("validation") or ())
    found = []
    for text in sweep.space.get("claims") or ():
        contest = contests.get(text)
        if contest is None or (patients < MIN_PATIENTS and not contest.cells):
            found.append(Finding(text, None, Verdict("undecided", 0), _not_begun(patients), (), ""))
            continue
        said = evidence(contest, _Outcomes(runs, contest.metric)).verdict
        sentence = _sentence(contest, said, patients)
        found.append(
            Finding(text, contest.stated_after, said, sentence, _cells(contest), _methods(contest, said, patients))
        )
    return tuple(found)


def check_claims(sweep: Sweep) -> None:
    """ClaimRefuted when a claim is."""
    refuted = [finding for finding in findings(sweep) if finding.verdict.word == "refuted"]
    if refuted:
        raise ClaimRefuted("\n".join(f"claim {finding.text}: {finding.sentence}" for finding in refuted))


def claims_document(sweep: Sweep) -> list[dict[str, Any]]:
    """The findings as JSON; null where a claim is not so far."""
    return [
        {
            "claim": finding.text,
            "stated_after": finding.stated_after,
            "verdict": finding.verdict.word,
            "seeds": finding.verdict.seeds,
            "difference": _numbers(finding.verdict.difference),
            "more_seeds": finding.verdict.more_seeds,
            "more_patients": finding.verdict.more_patients,
            "sentence": finding.sentence,
            "methods": finding.methods or None,
        }
        for finding in findings(sweep)
    ]


def _contests(sweep: Sweep) -> list[Contest]:
    try:
        return [Contest.model_validate(one) for one in read_json(GenerationFolder(sweep.folder).claims_file)["claims"]]
    except DOCUMENT_ERRORS:
        return []


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What a run of an arm with a seed came to, by one score."""

    runs: Mapping[tuple[str, int], Trial]
    metric: str

    def __call__(self, arm: Arm, seed: int) -> Outcome:
        trial = self.runs.get((arm.uid, seed))
        if trial is None or trial.state in ("running", "waiting"):
            return None
        return "failed" if trial.scored is None else outcome_of(trial.scored.rois, trial.scored.scheme, self.metric)


def _not_begun(patients: int) -> str:
    if patients < MIN_PATIENTS:
        few = plural(patients, "validation patient")
        return f"Undecided: {few}, and a verdict needs {MIN_PATIENTS}; nothing was trained for it."
    return "Undecided: its runs have not begun; they follow the search."


def _sentence(contest: Contest, said: Verdict, patients: int) -> str:
    known, word = said.difference, said.word.capitalize()
    if known is None:
        return f"{word}: {said.reason}."
    found = f"{difference_text(known.value)} {metric_text(contest.metric)}"
    within = interval_text(known.low, known.high, signed=True)
    basis = f"{said.seeds} fresh seeds a side, {plural(len(contest.cells), 'pair')} of settings"
    few = ", which is few" if patients < FEW_PATIENTS else ""
    on = f"{plural(patients, 'validation patient')}{few}"
    return f"{word}: {found} ({within}) against {difference_text(contest.margin)} claimed; {basis}, {on}.{_more(said)}"


def _more(said: Verdict) -> str:
    """What would settle it."""
    if said.word != "undecided":
        return ""
    seeds = said.more_seeds and f"{plural(said.more_seeds, 'more seed')} a side"
    patients = said.more_patients and plural(said.more_patients, "more patient")
    if not seeds and not patients:
        return (
            " The difference is so close to what is claimed that no practical number of seeds or patients settles it."
        )
    alone = "" if seeds else " Seeds alone would not settle it."
    more = listed([part for part in (seeds, patients) if part])
    return f"{alone} About {more} would settle it, if the difference stays."


def _cells(contest: Contest) -> tuple[str, ...]:
    """What each cell's sides share, then how they differ."""
    lines = []
    for cell in contest.cells:
        better, worse = cell.better.parameters, cell.worse.parameters
        names = list(dict.fromkeys((*better, *worse)))
        shared = [
            _setting(name, better)
            for name in names
            if better.get(name) == worse.get(name) and better.get(name) is not None
        ]
        apart = [name for name in names if better.get(name) != worse.get(name)]
        sides = [", ".join(_setting(name, arm.parameters) for name in apart) for arm in (cell.better, cell.worse)]
        lines.append(f"{sides[0]} against {sides[1]}; both: {', '.join(shared) or 'nothing else varies'}")
    return tuple(lines)


def _setting(name: str, values: Mapping[str, Any]) -> str:
    value = label_of(values.get(name))
    return setting_text(name, value) if value is not None else f"no {name.replace('_', ' ')}"


def _methods(contest: Contest, said: Verdict, patients: int) -> str:
    """A draft: what was done and found, with the sources of the method."""
    known = said.difference
    if known is None:
        return ""
    left, _, rest = contest.text.partition(">")
    right = rest.partition(" on ")[0]
    margin, late = value_text(contest.margin), contest.stated_after
    when = (
        f"when {plural(late, 'training')} of the sweep had ended" if late else "before the first training of the sweep"
    )
    return (
        f"The claim was stated {when}. We tested whether {left.strip()} exceeds {right.strip()} in "
        f"{metric_text(contest.metric)} by more than "
        f"{margin} on {plural(patients, 'validation patient')}, split by patient. Both sides were trained with the "
        f"same {said.seeds} seeds, none of which had been used to choose a setting, in "
        f"{plural(len(contest.cells), 'pair')} of settings equal in everything else. The two-sided error of 5 % was "
        "spent over the looks at the data (Lan and DeMets, 1983); the variance is that over patients, by the "
        f"jackknife, plus that over seeds. The mean difference was {difference_text(known.value)} (95 % interval, "
        f"valid whenever one stops: {interval_text(known.low, known.high, signed=True)}); the claim is {said.word}."
    )


def _numbers(known: Interval | None) -> list[float] | None:
    return None if known is None else [known.value, known.low, known.high]
