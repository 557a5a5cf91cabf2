"""A sweep to be imported, with everything that can be in one, and kills of its import at numbered I/O steps.

python -m tests.sweep.moving make FOLDER | finish FOLDER | kill FOLDER TRIES
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.files import read_json, sha256_file, write_json
from harness.sweep.bring import Brought, bring, open_old_home
from harness.sweep.doctor import examine
from harness.sweep.layout import Home, open_home
from harness.sweep.progress import Screen
from harness.tracking.project import CURSOR
from tests.faults.children import run_child, warm
from tests.faults.steps import Point, Steps
from tests.faults.tiny import Place, copied, prepared

QUIET = Screen(Console(file=StringIO()))
PHANTOM = "data: {root: phantom, phantom: {patients: 6, roi_px: 128, tiny_share: 0.0}"
LOOKED_AT = "a set of test patients"


def made(folder: Path) -> Place:
    """Two generations, a replicate, trials kept from the first, the last one killed after its first epoch of two.

    Beside it, in `finished`, the same went on in the old home.
    """
    folder.mkdir(parents=True)
    place = prepared(folder / "old", Path("nowhere"))
    yaml = place.path / "tiny.yaml"
    text = yaml.read_text().replace('data: {root: "nowhere"', PHANTOM) + "replicate: {top: 1, seeds: [101]}\n"
    yaml.write_text(text)
    ended = run_child(place)
    assert ended.code == 0, ended.error
    yaml.write_text(text.replace("[0.003, 0.01]", "[0.003, 0.01, 0.03]").replace("trials: 2", "trials: 3"))
    killed = run_child(place, at=Point("rename .*g2/trials/default.0002/attempts/1/checkpoint.pt", 2))
    assert killed.code is None, killed.error
    row = place.generation.path / "external" / "theirs"
    shutil.copytree(next(place.generation.trials.iterdir()), row)
    (row / CURSOR).unlink()
    ended = run_child(copied(place, folder / "finished"))
    assert ended.code == 0, ended.error
    return place


def importing(old: Path, new: Path, *, storage: str | None = None) -> Brought:
    """`harness import tiny`."""
    return bring("tiny", open_old_home(old), open_home(new), QUIET, storage=storage)


def facts(home: Home) -> dict[str, Any]:
    """What a home holds of the sweep: files by their hashes, MLflow's runs, Optuna's trials."""
    # Spaces, specs and so manifests say where the home lies.
    here = [CURSOR, "lock", "space.json", "spec.json", "manifest.json"]
    files = {
        path.relative_to(home.path).as_posix(): sha256_file(path) if path.name not in here else ""
        for path in sorted(home.sweep("tiny").path.rglob("*"))
        if path.is_file()
    }
    with closing(sqlite3.connect(home.path / "mlflow.db")) as db:
        runs = sorted(db.execute("select name, status from runs where lifecycle_stage = 'active'").fetchall())
    with closing(sqlite3.connect(home.optuna_file)) as db:
        query = "select study_name, number, state from trials join studies using (study_id)"
        trials = sorted(db.execute(query).fetchall())
    return {"files": files, "runs": runs, "trials": trials}


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder but the lock."""
    return {
        str(file): sha256_file(file) for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "lock"
    }


def killed(old: Path, empty: Path, folder: Path, at: int | None) -> list[str] | None:
    """Import into a copy of an empty home in a process of its own; kill it at a step. Its steps; None: killed."""
    shutil.copytree(empty, folder)
    note = folder.with_suffix(".json")
    child = os.fork()
    if child == 0:
        steps, error = Steps(folder, at), ""
        try:
            steps.install()
            importing(old, folder)
        except BaseException:
            error = traceback.format_exc()
        note.write_text(json.dumps({"steps": steps.seen, "error": error}))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    said = read_json(note)
    assert not said["error"], said["error"]
    return list(said["steps"])


def kills(folder: Path, tries: int) -> dict[str, Any]:
    """Kill the import at so many steps, evenly spread; what was wrong after the same command again."""
    old, empty = folder / "old/home", folder / "empty"
    prepared(folder / "template", Path("nowhere"))
    (folder / "template/home").rename(empty)
    steps = killed(old, empty, folder / "whole", None)
    assert steps is not None
    truth, wrong = facts(Home(folder / "whole")), []
    for index in range(tries):
        at = round((index + 0.5) * len(steps) / tries) or 1
        home = Home(folder / f"try {at}")
        if killed(old, empty, home.path, at) is not None:
            wrong.append(f"step {at} was never reached")
        importing(old, home.path)
        found = facts(home)
        wrong += [f"step {at}, {steps[at - 1]}: {kind} differ" for kind in truth if found[kind] != truth[kind]]
        again = importing(old, home.path)
        if (again.copied, again.told, again.runs, again.left) != (0, 0, 0, []):
            wrong.append(f"step {at}: once more did something: {again}")
        wrong += [f"step {at}: {finding.what}" for finding in examine(home.sweep("tiny"), home).found]
        shutil.rmtree(home.path)
    return {"steps": len(steps), "tries": tries, "wrong": wrong}


def in_a_process(*arguments: str | Path) -> Any:
    """Run this module: it draws nothing in its pictures, which no other test is to find so."""
    command = [sys.executable, "-m", "tests.sweep.moving", *map(str, arguments)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HARNESS_"))}
    done = subprocess.run(command, capture_output=True, text=True, env=kept | {"OMP_NUM_THREADS": "1"}, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def openings(home: Home, key: str, *, sweep: str = "tiny", time: str = "2026-01-01T00:00:00+00:00") -> None:
    """Note a look at test patients."""
    known = read_json(home.openings) if home.openings.exists() else {}
    looks = known.setdefault(key, {"patients": ["P1"], "openings": []})["openings"]
    looks.append({"time": time, "sweep": sweep, "generation": 1, "runs": ["default.0000"]})
    write_json(home.openings, known)


if __name__ == "__main__":
    warm()
    if sys.argv[1] == "make":
        print(json.dumps(str(made(Path(sys.argv[2])).path)))
    elif sys.argv[1] == "finish":
        ended = run_child(Place(Path(sys.argv[2])))
        print(json.dumps([ended.code, ended.error]))
    else:
        print(json.dumps(kills(Path(sys.argv[2]), int(sys.argv[3]))))
