"""The source report's three takeaways, asked of this sweep: image size, imbalance, pretrained backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.inference.ranks import rank_correlation
from harness.report.boards import Board, Row
from harness.report.effects import effect_sentence
from harness.report.queries import Sweep, Trial, Value
from harness.report.statistics import MIN_PAIRS, Contrast, Run, design, paired_gains
from harness.report.wording import difference_text, factor_text, listed, metric_text, percent_text, plural, score_text

SIZES = ("patch_px", "input_px", "mpp")
WEIGHTS = "encoder_weights"
RANDOM, PRETRAINED = "random", "pretrained"
# Largest to smallest class: above 9 the literature calls data highly imbalanced, up to 1.5 balanced
# (KEEL's grouping; Fernandez et al., Fuzzy Sets and Systems 159, 2008).
HIGH_RATIO, BALANCED_RATIO = 9.0, 1.5
# A rank correlation of three classes takes six values and says nothing.
MIN_CLASSES = 5

NOT_SUPPORTED = "Not supported by this sweep"


@dataclass(frozen=True, slots=True)
class Takeaway:
    """One claim of the source, whether this sweep supports it, and the numbers or the reason."""

    claim: str
    supported: bool
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """All in one line, the claim first."""
        return f"{self.claim}: {' '.join(self.sentences)}"


def takeaways(sweep: Sweep, groups: Sequence[Board], yardstick: Sequence[Board]) -> tuple[Takeaway, ...]:
    """Image size, imbalance, pretrained backbone; empty while nothing has completed."""
    if not groups:
        return ()
    widest = next((board for board in yardstick if len(board.label_maps) > 1 and board.leader), groups[0])
    return _image_size(sweep, widest), _imbalance(groups), _pretrained(sweep, widest)


def runs_of(board: Board) -> list[tuple[Trial, float]]:
    """The board's search runs with their own scores: no replicates, no masks of other tools."""
    found = [(row.trial, row.scored.scores.get(board.metric)) for row in board.rows if not row.trial.external]
    return [(trial, score) for trial, score in found if score is not None]


def factors_of(sweep: Sweep, board: Board) -> tuple[str, ...]:
    """What varies among a board's runs; the label map only across label maps."""
    return tuple(key for key in sweep.varying if board.by_yardstick or key != "labels")


def _image_size(sweep: Sweep, board: Board) -> Takeaway:
    claim = "Image size matters"
    runs: list[Run] = [(trial.parameters, score) for trial, score in runs_of(board)]
    varied = design(runs, factors_of(sweep, board))
    sizes = [key for key in SIZES if key in varied.levels]
    if not sizes:
        reason = f"{listed([factor_text(key) for key in SIZES])} did not vary among its completed runs."
        return Takeaway(claim, False, (f"{NOT_SUPPORTED}: {reason}",))
    found = [
        Contrast(key, level.name, varied.levels[key][0].name,
                 _signed(paired_gains(varied, key, level, varied.levels[key][0]), sweep, board))
        for key in sizes for level in varied.levels[key][1:]
    ]  # fmt: skip
    return _judged(claim, found, board)


def _pretrained(sweep: Sweep, board: Board) -> Takeaway:
    claim = "A pretrained backbone helps"
    runs: list[Run] = [({**trial.parameters, WEIGHTS: _kind(trial)}, score) for trial, score in runs_of(board)]
    kinds = {values[WEIGHTS] for values, _ in runs} - {None}
    if kinds != {RANDOM, PRETRAINED}:
        return Takeaway(claim, False, (f"{NOT_SUPPORTED}: {_one_kind(runs)}",))
    varied = design(runs, tuple(dict.fromkeys((*factors_of(sweep, board), WEIGHTS))))
    levels = {level.name: level for level in varied.levels[WEIGHTS]}
    gains = paired_gains(varied, WEIGHTS, levels[PRETRAINED], levels[RANDOM])
    contrast = Contrast(WEIGHTS, PRETRAINED, RANDOM, _signed(gains, sweep, board))
    return _judged(claim, [contrast], board, helps=True)


def _kind(trial: Trial) -> Value:
    """`random`, `pretrained` for any other weights, None for a network without an encoder of its own."""
    weights = trial.value(WEIGHTS)
    return None if weights is None else RANDOM if weights == RANDOM else PRETRAINED


def _one_kind(runs: Sequence[Run]) -> str:
    """Why pretrained and random weights cannot be compared."""
    kinds = {values[WEIGHTS] for values, _ in runs}
    if PRETRAINED not in kinds:
        return "no completed run has pretrained weights."
    if None in kinds:
        return "pretrained weights came with another architecture only, and cannot be told apart from it."
    return "every completed run has pretrained weights."


def _judged(claim: str, found: Sequence[Contrast], board: Board, *, helps: bool = False) -> Takeaway:
    """Supported by a visible difference; `helps`: only by one above zero."""
    name = metric_text(board.metric)
    seen = [contrast for contrast in found if contrast.visible]
    good = [c for c in seen if not helps or (c.mean or 0.0) > 0]
    if good:
        return Takeaway(claim, True, ("Supported.", *(effect_sentence(contrast, name) for contrast in good)))
    if seen:
        return Takeaway(claim, False, (f"{NOT_SUPPORTED}: the difference goes the other way.",
                                       *(effect_sentence(contrast, name) for contrast in seen)))  # fmt: skip
    reason = "no difference is visible over paired runs." if any(c.pairs for c in found) else "no two runs are a pair."
    return Takeaway(claim, False, (f"{NOT_SUPPORTED}: {reason}", *(_unseen(c, name) for c in found if c.pairs)))


def _unseen(contrast: Contrast, name: str) -> str:
    few = f", fewer than the {MIN_PAIRS} a verdict needs" if contrast.pairs < MIN_PAIRS else ""
    spread = "" if contrast.sd is None else f", SD {score_text(contrast.sd)}"
    return (
        f"{factor_text(contrast.factor).capitalize()} {contrast.level} over {contrast.reference}: "
        f"{difference_text(contrast.mean)} {name}{spread}, {plural(contrast.pairs, 'pair')}{few}."
    )


def _imbalance(groups: Sequence[Board]) -> Takeaway:
    claim = "The data are imbalanced"
    leaders = {board.title: (row, _shares(row)) for board in groups if (row := _measured(board)) is not None}
    told = {title: (row, shares) for title, (row, shares) in leaders.items() if len(shares) > 1}
    if not told:
        return Takeaway(claim, False, (f"{NOT_SUPPORTED}: its validation regions hold fewer than two classes.",))
    ratios = {title: max(shares.values()) / min(shares.values()) for title, (_, shares) in told.items()}
    supported = max(ratios.values()) > BALANCED_RATIO
    verdict = "Supported." if max(ratios.values()) > HIGH_RATIO else "Supported, mildly."
    first = verdict if supported else f"{NOT_SUPPORTED}: the classes have about as many pixels."
    return Takeaway(claim, supported, (first, *(_class_sentence(title, row, s) for title, (row, s) in told.items())))


def _measured(board: Board) -> Row | None:
    return board.first_trained


def _shares(row: Row) -> dict[str, float]:
    """Classes with a true validation pixel, and their shares of all."""
    support = {name: int(pixels) for name, pixels in row.scored.support.items() if pixels}
    total = sum(support.values())
    return {name: pixels / total for name, pixels in support.items()}


def _class_sentence(title: str, row: Row, shares: Mapping[str, float]) -> str:
    rare, common = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    ratio = shares[common] / shares[rare]
    degree = (
        "highly imbalanced" if ratio > HIGH_RATIO else "mildly imbalanced" if ratio > BALANCED_RATIO else "balanced"
    )
    ious = {name: iou for name in shares if (iou := row.scored.scores.get(f"val/iou_{name}")) is not None}
    said = (
        f"{title}: {degree}; {common} has {percent_text(shares[common])} % of the true validation pixels and {rare} "
        f"{percent_text(shares[rare])} %, {ratio:.3g} times fewer; IoU of the leader {score_text(ious.get(common))} "
        f"and {score_text(ious.get(rare))}"
    )
    names = sorted(ious)
    if len(names) < MIN_CLASSES:
        return f"{said}."
    rho = rank_correlation([shares[name] for name in names], [ious[name] for name in names])
    shown = "n/a" if rho is None else difference_text(rho)
    return f"{said}; rank correlation of share and IoU {shown} over {len(names)} classes."


def _signed(gains: Sequence[float], sweep: Sweep, board: Board) -> tuple[float, ...]:
    """Above zero where better."""
    minimize = sweep.minimize and not board.by_yardstick
    return tuple(-gain for gain in gains) if minimize else tuple(gains)
