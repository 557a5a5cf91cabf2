"""`harness import`: a sweep moves from one home into another: its folders, then Optuna's studies and MLflow's runs.

The old home is only read. A generation that the new home lacks is gathered in `importing/` of the sweep's folder and
renamed into place when it is whole, so that no sweep ever goes on with a part of its trials. Whatever is there already
is left as it is: the same command again does nothing new, and finishes what a kill cut off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.config.space import PHANTOM
from harness.errors import BadInput, Refused
from harness.files import fsync_folder, is_disk_full, read_json, write_json
from harness.report.held_out import openings_key
from harness.report.queries import read_sweep
from harness.report.wording import plural
from harness.sweep.carrying import NOT_CARRIED, Carried, Copying, carried, carry, entries, in_place, missing, name_of
from harness.sweep.differences import differences
from harness.sweep.doctor import at_start
from harness.sweep.failures import disk_full_error
from harness.sweep.layout import HOME_VERSION, GenerationFolder, Home, SweepFolder
from harness.sweep.lock import held, holder_of
from harness.sweep.prepare import data_root
from harness.sweep.progress import Screen
from harness.sweep.storage_lock import held_in_storage
from harness.sweep.telling import tell_mlflow, tell_optuna
from harness.tracking.store import Store, printable, tracking_store
from harness.trial.folder import TrialFolder

# Copied apart from the rest of a generation: one by one, or last.
_APART = frozenset({"space.json", "trials", "external", "test", "adopting"})


@dataclass
class Brought:
    """What an import did, and what it could not do (`left`, one line each)."""

    sweep: str
    generations: int = 0
    trials: int = 0  # of the old home
    copied: int = 0
    ahead: int = 0  # that went on in the new home
    external: int = 0
    openings: int = 0
    told: int = 0  # trials that Optuna's storage did not have
    runs: int = 0  # that MLflow did not have as they are now
    left: list[str] = field(default_factory=list)

    def document(self, old: Home, new: Home, storage: str, store: Store) -> dict[str, Any]:
        """`harness import --json`."""
        return {
            "schema": "harness.import/1",
            "sweep": self.sweep,
            "from": str(old.path),
            "home": str(new.path),
            "generations": self.generations,
            "trials": self.trials,
            "copied": self.copied,
            "went_on": self.ahead,
            "external": self.external,
            "openings": self.openings,
            "optuna": {"storage": printable(storage), "told": self.told},
            "mlflow": {"store": store.printable, "runs": self.runs},
            "left": self.left,
        }

    def lines(self, new: Home) -> Iterator[str]:
        """The same for people."""
        yield from (f"left  {line}" for line in self.left)
        there = self.trials - self.copied - self.ahead
        more = f", {self.ahead} went on here" if self.ahead else ""
        more += f", {plural(self.external, 'set')} of other tools' masks" if self.external else ""
        more += f", {plural(self.openings, 'opening')} of test patients" if self.openings else ""
        yield (
            f"{self.sweep}, {plural(self.generations, 'generation')}: {self.copied} of {plural(self.trials, 'trial')} "
            f"copied to {new.path}, {there} there already{more}; {self.told} told to Optuna, {self.runs} to MLflow"
        )


def open_old_home(path: Path) -> Home:
    """A home to read from, which may be read-only. BadInput when it is none, Refused when a newer harness wrote it."""
    home = Home(path.expanduser().resolve())
    if not home.sweeps.is_dir():
        raise BadInput(f"--from {home.path}: not a home of harness (it has no folder sweeps/)")
    try:
        version = int(read_json(home.note)["version"]) if home.note.exists() else HOME_VERSION
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"{home.note}: cannot be read; is {home.path} a home of harness?") from None
    if version > HOME_VERSION:
        raise Refused(f"{home.path} was written by a newer harness (layout {version}; this one knows {HOME_VERSION})")
    return home


def bring(name: str, old: Home, new: Home, screen: Screen, *, storage: str | None = None) -> Brought:
    """Bring a sweep from one home into another. Idempotent, also after a kill.

    Refused while it runs in either, and when the new home has another sweep of that name.
    """
    if old.path == new.path:
        raise Refused(f"{name} is in {new.path} already: --from and --home are the same")
    source, target = old.sweep(name), new.sweep(name)
    source.last_generation()  # BadInput lists the sweeps there are
    store = tracking_store(new.path, os.environ)
    if storage is None or store.embedded:
        new.refuse_network_file_system()
    try:
        with _only_read(source), held(target), held_in_storage(storage, name):
            return _Import(old, new, source, target, screen, storage, store).done()
    except Exception as error:
        if is_disk_full(error):
            raise disk_full_error(new.path) from None
        raise


@contextmanager
def _only_read(sweep: SweepFolder) -> Iterator[None]:
    """Hold a sweep without a word in its folder, by the lock file that is there; Refused when somebody runs it."""
    if not sweep.lock.exists() and os.access(sweep.path, os.W_OK):
        sweep.lock.touch()
    if not sweep.lock.exists():
        yield  # a copy of a home, made without it
        return
    with sweep.lock.open("rb") as lock:
        try:
            # Shared is all that a file opened for reading gets on NFS, and enough to meet whoever holds it.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = holder_of(sweep)
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            raise Refused(f"the sweep {sweep.name!r} is being run by {who}, in {sweep.path.parents[1]}") from None
        yield


@dataclass
class _Import:
    """One call of `bring`."""

    old: Home
    new: Home
    source: SweepFolder
    target: SweepFolder
    screen: Screen
    storage: str | None
    store: Store

    @property
    def gathering(self) -> Path:
        """Generations that are not whole yet."""
        return self.target.path / "importing"

    @property
    def aside(self) -> Path:
        """What is being copied now."""
        return self.gathering / "aside"

    def done(self) -> Brought:
        """All of it: folders first, since the databases are told from them."""
        done = Brought(self.source.name)
        places = {generation.number: self._place(generation) for generation in self.source.generations()}
        trials = {number: list(self._compared(self._source(number), place)) for number, place in places.items()}
        shutil.rmtree(self.aside, ignore_errors=True)
        cohorts = dict(self._cohorts())
        self._carry_trials([one for each in trials.values() for one in each], cohorts, done)
        for number, place in places.items():
            self._carry_rest(self._source(number), place, cohorts, done)
        self._put_in_place(places)
        at_start(self.target, self.screen.note)
        done.generations = len(places)
        done.openings = self._merge_openings()
        brought = [generation for generation in self.target.generations() if generation.number in places]
        done.told = tell_optuna(brought, self.storage or self.new.optuna_url, self.screen)
        for generation in brought:
            runs, problems = tell_mlflow(generation, self.store, self.screen)
            done.runs += runs
            done.left += problems
        return done

    def _source(self, number: int) -> GenerationFolder:
        return GenerationFolder(self.source.path / f"g{number}")

    def _place(self, generation: GenerationFolder) -> GenerationFolder:
        """Where a generation is, or is being gathered. Refused when the new home has another one of its number."""
        there = GenerationFolder(self.target.path / generation.path.name)
        if not there.space_file.exists():
            return GenerationFolder(self.gathering / generation.path.name)
        mine, theirs = _read_space(generation), _read_space(there)
        if mine["key"] != theirs["key"]:
            raise Refused(
                f"{self.new.path} has another sweep {self.target.name!r}: {_difference(generation, there)} in "
                f"{there.path.name}; choose another --home, or remove that one by `harness rm {self.target.name}`"
            )
        return there

    def _compared(self, source: GenerationFolder, place: GenerationFolder) -> Iterator[Carried]:
        for folder in source.trial_folders():
            if folder.state_file.exists():  # else killed before it was submitted; the controller makes it anew
                yield carried(folder, TrialFolder(place.trials / folder.uid))

    def _carry_trials(self, trials: Sequence[Carried], cohorts: Mapping[str, Path], done: Brought) -> None:
        done.trials = len(trials)
        done.ahead = sum(trial.standing == "ahead" for trial in trials)
        wanted = [trial for trial in trials if trial.standing in ("absent", "behind")]
        sources = {trial.name: trial.new.path for trial in trials}
        if not wanted:
            return
        with self.screen.step(f"copying {plural(len(wanted), 'trial')}") as on_progress:
            for number, trial in enumerate(wanted, start=1):
                spoiled = carry(trial, self.aside, sources, cohorts)
                if spoiled:
                    more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
                    where = f"{trial.name} is damaged in {self.old.path} ({spoiled[0]}{more})"
                    done.left.append(f"{where}: it waits here to be trained again, its files are in damaged/")
                on_progress(number, len(wanted))
        done.copied = len(wanted)

    def _carry_rest(
        self, source: GenerationFolder, place: GenerationFolder, cohorts: Mapping[str, Path], done: Brought
    ) -> None:
        """What is no trial's. The space last: with it a generation counts."""
        place.trials.mkdir(parents=True, exist_ok=True)
        list(missing(source.path, place.path, self.aside, leave_out=_APART | NOT_CARRIED))
        list(missing(source.held_out, place.held_out, self.aside))
        done.external += len(list(missing(source.path / "external", place.path / "external", self.aside)))
        for row in entries(source.path / "external"):
            if _manifest(row) != _manifest(place.path / "external" / row.name):
                done.left.append(f"{name_of(TrialFolder(row))} has other masks in {self.new.path}: left as it is there")
        if not place.space_file.exists():
            write_json(place.space_file, self._document(source, cohorts))

    def _document(self, source: GenerationFolder, cohorts: Mapping[str, Path]) -> dict[str, Any]:
        """The space as it is in the new home: its synthetic data, and the storage that it goes on with."""
        document = _read_space(source)
        command = _without_storage(document.get("command") or ())
        document["command"] = [*command, *(["--storage", printable(self.storage)] if self.storage else [])]
        if document["space"]["data"]["root"] == PHANTOM:
            document["data"]["root"] = str(cohorts[Path(document["data"]["root"]).name])
        return document

    def _cohorts(self) -> Iterator[tuple[str, Path]]:
        """Synthetic data by the name of their folder, and where they are in the new home."""
        for generation in self.source.generations():
            document = _read_space(generation)
            if document["space"]["data"]["root"] == PHANTOM:
                name = Path(document["data"]["root"]).name
                yield name, self._cohort(generation, name)

    def _cohort(self, source: GenerationFolder, name: str) -> Path:
        """A copy, or painted again where the old ones are gone."""
        painted, place = self.old.phantoms / name, self.new.phantoms / name
        if not painted.is_dir():
            return data_root(source.search_space().data, self.new, self.screen)
        self.new.phantoms.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            if not place.exists():
                with self.screen.step("copying the synthetic cohort"):
                    shutil.rmtree(self.aside, ignore_errors=True)
                    Copying().folder(painted, self.aside)
                    in_place(self.aside, place)
        return place

    def _put_in_place(self, places: Mapping[int, GenerationFolder]) -> None:
        for number, place in sorted(places.items()):
            final = self.target.path / f"g{number}"
            if place.path != final:
                with suppress(OSError):  # empty folders, of a sweep that was killed before it wrote its space
                    (final / "trials").rmdir()
                    final.rmdir()
                place.path.rename(final)
        fsync_folder(self.target.path)
        list(missing(self.source.path, self.target.path, self.aside, leave_out=_other_than(self.source)))
        shutil.rmtree(self.gathering, ignore_errors=True)

    def _merge_openings(self) -> int:
        """Bring every look at this sweep's test patients, by whichever sweep of the old home; how many were new."""
        if not self.old.openings.exists():
            return 0
        known: dict[str, Any] = read_json(self.new.openings) if self.new.openings.exists() else {}
        added, looked = 0, read_json(self.old.openings)
        for key in {openings_key(read_sweep(generation.path)) for generation in self.source.generations()}:
            if key not in looked:
                continue
            here = known.setdefault(key, {**looked[key], "openings": []})["openings"]
            new = [opening for opening in looked[key]["openings"] if opening not in here]
            here.extend(new)
            here.sort(key=lambda opening: str(opening["time"]))
            added += len(new)
        if added:
            write_json(self.new.openings, known)
        return added


def _read_space(generation: GenerationFolder) -> dict[str, Any]:
    try:
        document = generation.read_space()
        document["key"], document["space"]["data"]["root"], document["data"]["hash"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{generation.space_file}: cannot be read") from None
    return document


def _difference(mine: GenerationFolder, theirs: GenerationFolder) -> str:
    """The first setting that differs, as people write it."""
    try:
        told = [generation.read_space()["data"] for generation in (theirs, mine)]
        return str(next(differences(theirs.search_space(), told[0], mine.search_space(), told[1])))
    except (StopIteration, ValueError, KeyError):
        return "another space or other data"


def _manifest(row: Path) -> Any:
    try:
        return read_json(row / "manifest.json")
    except (OSError, ValueError):
        return None


def _without_storage(command: Sequence[str]) -> list[str]:
    """A command without the storage of the home that it was run in."""
    words = [word for word in command if not word.startswith("--storage=")]
    return [word for at, word in enumerate(words) if word != "--storage" and words[at - 1 : at] != ["--storage"]]


def _other_than(sweep: SweepFolder) -> frozenset[str]:
    """What of a sweep's folder is not carried with it: all but the two notes."""
    return frozenset(entry.name for entry in sweep.path.iterdir()) - {sweep.last.name, sweep.slots.name}
