"""What is trained next: combinations from the studies, paused trials that go on, and runs with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.config.cells import DataFacts, Stratum, resolve, strata_of
from harness.config.space import SearchSpace
from harness.inference.claims import Arm
from harness.study import Proposal, StratumStudy
from harness.sweep.book import Book
from harness.sweep.claiming import Claims
from harness.sweep.clock import Clock
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record, now
from harness.sweep.progress import climbing_line
from harness.sweep.replication import due, replicate_record, searched_record, tops_due, wanted_of
from harness.sweep.rungs import first_share, ladder, next_up


class Search:
    """The trials of one generation, begun one after the other.

    `end` is told of a trial that is over without a worker's word; `note` of what a person should read.
    """

    def __init__(
        self,
        space: SearchSpace,
        facts: DataFacts,
        generation: GenerationFolder,
        book: Book,
        studies: Mapping[str, StratumStudy],
        *,
        clock: Clock,
        end: Callable[[Record], None],
        note: Callable[[str], None],
    ) -> None:
        self.space, self.facts, self.generation = space, facts, generation
        self._book, self._studies, self._clock, self._end, self._note = book, studies, clock, end, note
        self._strata = {stratum.name: stratum for stratum in strata_of(space)}
        self._exhausted: set[str] = set()
        self._told: set[tuple[str, int, int]] = set()
        # Of trials that a larger budget adds to a search that was decided, some finished already.
        decided = any(r.state in ("complete", "pruned") and r.adopted_from is None for r in book.records.values())
        self._first_share = 1.0 if decided else first_share(space)
        self._claims = Claims(space, generation, patients=len(facts.split.validation), chooses=True)
        self._claims.state(book.records)

    @property
    def wanted(self) -> int:
        """How many trials the sweep has in the end, as far as known now."""
        begun, over = self._book.begun, self.over
        return sum(
            (begun[name] if name in self._exhausted else max(self.space.budget.trials, begun[name]))
            + wanted_of(self.space, name, self._book.records, self._claims, over=over)
            for name in self._strata
        )

    @property
    def over(self) -> bool:
        """Whether every trial of the search is there and has ended, so that its top is known."""
        return all(self._is_full(name) and not self._book.left[name] for name in self._strata)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return not self._book.unfinished and self.over and self._next_fresh() is None

    def next(self) -> str | None:
        """The uid of a trial to train (on); None when there is none before another one ends."""
        uid = self._new_trial_in_turn() or self._next_up()
        if uid is None and (fresh := self._next_fresh()) is not None:
            return self._new_replicate(*fresh)
        return uid

    def _next_fresh(self) -> tuple[Arm, int] | None:
        """A run with a fresh seed; before the search is over, one of a stratum whose top is settled."""
        if self.over:
            return next(due(self.space, self._book.records, self._claims), None)
        full = [name for name in self._strata if self._is_full(name)]
        return next(tops_due(self.space, self._book.records, full), None)

    def _is_full(self, stratum: str) -> bool:
        """Whether a stratum gets no further trials."""
        return stratum in self._exhausted or self._book.begun[stratum] >= self.space.budget.trials

    def _new_trial_in_turn(self) -> str | None:
        """Strata take turns, so that a time limit ends them evenly."""
        if self._clock.share > self._first_share:
            self._exhausted.update(self._strata)
        begun = self._book.begun
        for name in sorted(self._strata, key=lambda stratum: begun[stratum]):
            if self._is_full(name):
                continue
            proposal = self._studies[name].propose()
            if proposal is not None:
                return self._new_trial(self._strata[name], proposal, number=begun[name])
            self._exhausted.add(name)
        return None

    def _new_trial(self, stratum: Stratum, proposal: Proposal, *, number: int) -> str:
        spec = resolve(self.space, self.facts, proposal.assignment, seed=self.space.seed)
        record = searched_record(self.space, self.generation.number, stratum, proposal, spec, number=number)
        self._book.begin(record, spec)
        self._studies[stratum.name].started(record.uid, proposal.assignment)
        return record.uid

    def _new_replicate(self, of: Arm, seed: int) -> str:
        spec = resolve(self.space, self.facts, of.parameters, seed=seed)
        record = replicate_record(self.space, self.generation.number, of, spec)
        self._book.begin(record, spec)
        return record.uid

    def _next_up(self) -> str | None:
        """Of a stratum whose trials are all at their rung, one that goes on; if nobody does, those left are pruned."""
        for name in self._strata:
            if self._is_full(name) and self._book.paused[name]:
                rungs = ladder(self.space, name, self._book.records.values())
                if chosen := next_up(rungs):
                    number = chosen[0].rung
                    self._tell(climbing_line(name, rungs[number], len(chosen)), (name, number, rungs[number].places))
                    return self._book.change(chosen[0].uid, state="waiting", rung=number + 1).uid
                if self._book.left[name] == self._book.paused[name]:
                    for record in [r for r in self._book.records.values() if r.stratum == name and r.state == "paused"]:
                        self._end(record.model_copy(update={"state": "pruned", "finished": now()}))
        return None

    def _tell(self, line: str, about: tuple[str, int, int]) -> None:
        """Once, though those who go on are named one by one."""
        if about not in self._told:
            self._told.add(about)
            self._note(line)
