"""Kill the flow, a stage, S3 or Prefect at random moments, start again, and compare the ends.

Usage: python benchmarks/chaos.py --out FOLDER [--trials 20] [--at-once 2] [--commit SHA] > PAGE.md

Each trial is one `kill -9` in a clone of its own with servers of its own. A moment is a number of
stages done plus a delay, so that it means the same on machines of any speed. Then the command is
typed again, as a person would, until it is green. A trial holds if every out of dvc.lock has the
hash of the undisturbed run, no process of the run is left, and every object that a manifest names
is there with its sum. The report holds wall times: its summary is compared without them.

Finished trials are kept in FOLDER and taken up by the next call with the same commit and question;
the clone of a trial that failed is kept too.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import resuming
from run_times import hardware

from dualvla import cli, config, files, paths, stack, workspace
from dualvla.store import aliases, client, registry, versions
from tasks.session import OWNER

VICTIMS = ("flow", "stage", "s3", "prefect")
STARTS = 6  # by a person, until the run is green
PATIENCE = 6 * 3600.0  # seconds of one start: a guard against hanging, not a measure
LINGER = 60.0  # seconds until a process that is left counts as an orphan
POLL = 0.5  # a look at all processes costs 15 ms
UNDISTURBED = "undisturbed"
VOLATILE = {"timings", "seconds_per_decision"}  # of the report's summary: what was spent
RUNS = ("retrain", "ablate")  # prefixes of published runs
FOREIGN = (  # variables that would make trials share something
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", client.ENDPOINT),
    *("PREFECT_API_URL", "DUALVLA_CACHE"),
)


@dataclass(frozen=True)
class Moment:
    """What is killed, and when."""

    victim: str
    stages: int  # done before
    delay: float  # seconds after that
    seed: int  # which of several processes


@dataclass(frozen=True)
class Course:
    """Where and how trials run."""

    out: Path  # records, logs and clones
    make: Callable[[Path], Any]  # makes a project in a folder that is not there
    profile: str | None
    ports: Iterator[int]  # first of twenty, for one stack each
    asked: Mapping[str, Any] = field(default_factory=dict)  # what records are valid for


def draw(trials: int, stages: int, longest: float, seed: int) -> list[Moment]:
    """Moments at random, each victim as often as the others."""
    dice = random.Random(seed)
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(trials)]
    dice.shuffle(victims)
    return [
        Moment(one, dice.randrange(stages), round(dice.uniform(0, longest), 1), dice.randrange(999))
        for one in victims
    ]


def undisturbed(course: Course) -> dict[str, Any]:
    """What a run without any kill ends with; recorded, or run now."""
    path = course.out / f"{UNDISTURBED}.json"
    if not (rows := resuming.rows(path, dict(course.asked))):
        with _project(course, UNDISTURBED) as (root, environ):
            folder = workspace.plan(root, course.profile).folder
            with (course.out / f"{UNDISTURBED}.log").open("a") as log:
                code = _start(course, root, environ, log).wait()
            if code:
                raise RuntimeError(f"the undisturbed run ended with {code}: see {log.name}")
            rows = [{**result(root, folder), **ending(folder)}]
            if rows[0]["lost"] or rows[0]["orphans"] or not rows[0]["in_remote"]:
                raise RuntimeError(f"the undisturbed run left something: {rows[0]}")
            resuming.keep(path, dict(course.asked), rows)
        shutil.rmtree(root)
    return rows[0]


def trial(course: Course, number: int, moment: Moment, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """One kill and what became of it; recorded, or run now."""
    name = f"trial-{number:02}"
    path, asked = course.out / f"{name}.json", {**course.asked, "moment": asdict(moment)}
    if rows := resuming.rows(path, asked):
        return rows[0]
    with _project(course, name) as (root, environ):
        folder = workspace.plan(root, course.profile).folder
        codes, hit = [], None
        with (course.out / f"{name}.log").open("a") as log:
            while len(codes) < STARTS and (not codes or codes[-1]):
                flow = _start(course, root, environ, log)
                try:
                    if hit is None:
                        hit = strike(flow, root, folder, moment)
                        log.write(f"--- killed: {hit}\n")
                        log.flush()
                    codes.append(flow.wait(PATIENCE))
                except subprocess.TimeoutExpired:
                    codes.append(None)
                finally:
                    flow.kill()
                    flow.wait()
        found = {"exit_codes": codes, "killed": hit, **ending(folder)}
        if codes[-1] == 0:
            found |= result(root, folder)
            found["differs"] = different(wanted, found)
        found["holds"] = holds(found)
        resuming.keep(path, asked, [found])
    if found["holds"]:
        shutil.rmtree(root)
    return found


def holds(found: Mapping[str, Any]) -> bool:
    """Whether a trial hit something and ended as if it had not."""
    green = found["killed"] is not None and found["exit_codes"][-1] == 0
    return green and not (found["differs"] or found["orphans"] or found["lost"])


def strike(flow: subprocess.Popen[Any], root: Path, folder: Path, moment: Moment) -> str | None:
    """Wait for the moment and kill; return what was killed, None if the run ended before."""
    dice = random.Random(moment.seed)
    while stages_done(folder) < moment.stages or not ours(folder):
        if flow.poll() is not None:
            return None
        time.sleep(POLL)
    time.sleep(moment.delay)
    while flow.poll() is None:
        if victims := sorted(_victims(flow, root, folder, moment.victim), key=lambda one: one.pid):
            with contextlib.suppress(psutil.Error):
                victim = dice.choice(victims)
                program, *rest = victim.cmdline() or [victim.name()]
                victim.kill()
                told = " ".join([Path(program).name, *rest]).replace(str(root), ".")
                return told.replace(sys.executable, Path(sys.executable).name)
        time.sleep(POLL)
    return None


def _victims(
    flow: subprocess.Popen[Any], root: Path, folder: Path, victim: str
) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error, FileNotFoundError):
        if victim == "flow":
            return [psutil.Process(flow.pid)]
        if victim == "stage":
            return ours(folder)
        return [psutil.Process(files.read_json(root / stack.STATE / f"{victim}.pid.json")["pid"])]
    return []


def ours(folder: Path) -> list[psutil.Process]:
    """Processes that a run in this folder started: supervisors, DVC and stages."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(OWNER) == str(folder.resolve()):
                found.append(process)
    return found


def stages_done(folder: Path) -> int:
    """How many stages DVC has recorded."""
    try:
        return len(config.read_yaml(folder / "dvc.lock").get("stages", {}))
    except (files.UserError, AttributeError):  # not there yet, or half-written this moment
        return 0


def result(root: Path, folder: Path) -> dict[str, Any]:
    """Hashes of every out of a green run, and the report's summary without what was spent."""
    lock = config.read_yaml(folder / "dvc.lock")["stages"]
    outs = {out["path"]: out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    del outs[paths.REPORT.as_posix()]
    summary = files.read_json(folder / paths.REPORT / "summary.json")
    text = json.dumps(without_costs(summary), sort_keys=True)
    params = workspace.plan(root).params if folder == root else config.load(folder / "params.yaml")
    where = client.place(params.store, root)
    return {
        "stages": len(lock),
        "outs": outs,
        "summary": hashlib.sha256(text.encode()).hexdigest(),
        **objects(where),
        "in_remote": _all_in_remote(root, folder),
    }


def without_costs(data: Any) -> Any:
    """A report's data without times, which differ from run to run."""
    if isinstance(data, dict):
        return {key: without_costs(one) for key, one in data.items() if key not in VOLATILE}
    return [without_costs(one) for one in data] if isinstance(data, list) else data


def objects(where: client.Place) -> dict[str, Any]:
    """How many published objects have their sums, and what is lost."""
    models = registry.models(where)
    parents = [*RUNS, *(f"{registry.ROOT}/{model}" for model in models)]
    named = [
        f"{parent}/{one.name}" for parent in parents for one in versions.listing(where, parent)
    ]
    for model in models:
        made = aliases.read(where, model, "candidate").version
        named.append(f"{registry.ROOT}/{model}/{made}")
    verified, lost = 0, []
    for prefix in sorted(set(named)):
        try:
            verified += versions.verify(where, prefix)
        except files.UserError as error:
            lost.append(str(error))
    return {"verified": verified, "lost": lost}


def _all_in_remote(root: Path, folder: Path) -> bool:
    """Whether DVC's remote has every out."""
    command = [sys.executable, "-m", "dvc", "status", "-c", "-q", "dvc.yaml"]
    plan = workspace.plan(root)
    done = subprocess.run(command, cwd=folder, env=workspace.environment(plan), check=False)
    return done.returncode == 0


def ending(folder: Path) -> dict[str, Any]:
    """Processes of the run that are left a while after it has ended."""
    last = time.monotonic() + LINGER
    while (left := ours(folder)) and time.monotonic() < last:
        time.sleep(POLL)
    return {"orphans": [one.pid for one in left]}


def different(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of outs, and of other results, that are not as in the undisturbed run."""
    outs = wanted["outs"].keys() | found["outs"].keys()
    names = [one for one in sorted(outs) if wanted["outs"].get(one) != found["outs"].get(one)]
    same = ("stages", "summary", "verified", "in_remote")
    return names + [one for one in same if wanted[one] != found[one]]


def clone(repository: Path, commit: str) -> Callable[[Path], Any]:
    """How a trial gets its project."""

    def make(root: Path) -> None:
        git = ["git", "-c", "advice.detachedHead=false"]
        subprocess.run([*git, "clone", "-q", "--no-checkout", repository, root], check=True)
        subprocess.run([*git, "-C", root, "checkout", "-q", commit], check=True)

    return make


def port_rows(first: int) -> Iterator[int]:
    """First ports of stacks that do not meet, passing over rows in use; for several threads."""
    lock = threading.Lock()
    rows = iter(range(first, 60000, 20))

    class Rows:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            with lock:
                return next(row for row in rows if not _in_use(row))

    return Rows()


def _in_use(row: int) -> bool:
    held = {one.laddr[1] for one in psutil.net_connections("tcp") if one.laddr}
    return any(port in held for port in range(row, row + stack.S3_PORT_COUNT + 1))


@contextlib.contextmanager
def _project(course: Course, name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A new project with its variables; nothing of it runs afterwards."""
    root = (course.out / "clones" / name).resolve()
    if root.exists():  # of a trial that was interrupted
        _silence(root, course.profile)
        shutil.rmtree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    course.make(root)
    environ = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    try:
        yield root, environ | {stack.PORT_BASE: str(next(course.ports))}
    finally:
        _silence(root, course.profile)


def _silence(root: Path, profile: str | None) -> None:
    """End what runs in a project: the flow, the processes of its run, and the servers."""
    if (root / "params.yaml").is_file():
        for process in [*_flows(root), *ours(workspace.plan(root, profile).folder)]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        stack.down(root)


def _flows(root: Path) -> Iterator[psutil.Process]:
    """Flows of a project that their trial, killed itself, could not end."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            # Its command line names `retrain` at first, then the module it turns into.
            if process.cwd() == str(root) and {"retrain", "flows.retrain"} & {*process.cmdline()}:
                yield process


def _start(
    course: Course, root: Path, environ: Mapping[str, str], log: Any
) -> subprocess.Popen[Any]:
    """What a person types."""
    command = [sys.executable, "-m", "dualvla.cli", "retrain"]
    command += ["--profile", course.profile] if course.profile else []
    return subprocess.Popen(
        command,
        cwd=root,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def page(
    moments: Sequence[Moment],
    found: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Any],
    about: str,
) -> str:
    """The trials as Markdown."""
    held = sum(one["holds"] for one in found)
    lines = [
        "# Killed at random",
        "",
        f"{about} {held} of {len(found)} trials ended as the undisturbed run: "
        f"{len(wanted['outs'])} hashes of outs, the report's summary, "
        f"{wanted['verified']} published objects.",
        "",
        "| trial | `kill -9` of | what it was | stages done + s | exit codes | outs that differ "
        "| orphans | lost objects | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, (moment, one) in enumerate(zip(moments, found, strict=True)):
        what = " ".join((one["killed"] or "ended before").split())[:70].replace("|", "/")
        cells = [
            str(number),
            moment.victim,
            f"`{what}`",
            f"{moment.stages} + {moment.delay:.1f}",
            ", ".join(map(str, one["exit_codes"])),
            ", ".join(one["differs"]) or "none" if "differs" in one else "never green",
            str(len(one["orphans"])),
            str(len(one["lost"])) if "lost" in one else "",
            "yes" if one["holds"] else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def run(course: Course, moments: Sequence[Moment], at_once: int) -> list[dict[str, Any]]:
    """All trials, some of them side by side."""
    wanted = undisturbed(course)

    def one(number: int) -> dict[str, Any]:
        found = trial(course, number, moments[number], wanted)
        sys.stderr.write(f"trial {number}: {'holds' if found['holds'] else 'does not hold'}\n")
        return found

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(len(moments))))


def main() -> None:
    """Run what has no record yet and print the page; exit with 1 if a trial does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of records and clones")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--commit", default="HEAD", help="what is cloned")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=10.0, help="seconds after a stage's end")
    parser.add_argument("--ports", type=int, default=24200, help="first port")
    given = parser.parse_args()
    # A flow ignores no SIGINT, but a shell's background job would hand it on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in FOREIGN:
        os.environ.pop(name, None)
    repository = workspace.find_root(Path(__file__).parent)
    name = subprocess.run(
        ["git", "-C", repository, "rev-parse", given.commit],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    asked = {"commit": name, "profile": given.profile}
    make = clone(repository, name)
    course = Course(given.out, make, given.profile, port_rows(given.ports), asked)
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = undisturbed(course)
    moments = draw(given.trials, wanted["stages"], given.longest, given.seed)
    found = run(course, moments, given.at_once)
    how = f"profile `{given.profile}`, seed {given.seed}, trials at once: {given.at_once}"
    about = f"Commit {name[:12]}, {how}; {hardware()}."
    sys.stdout.write(page(moments, found, wanted, about))
    sys.exit(int(not all(one["holds"] for one in found)))


if __name__ == "__main__":
    cli.main(main)
