"""thaw's entry point: what was typed -> composed -> plain dataclasses -> the plan -> the run.

python src/train.py --help lists what can be typed. Heavy imports (torch, timm, wandb) come only after the plan is
printed, so that a wrong word or a plan costs a second.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from thaw import again, keys, plan, shell, signals, table, tend
from thaw.errors import UserError
from thaw.progress import say
from thaw.settings import Settings, check
from thaw.store import Store, is_machine, machine_error

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
OUTPUTS = ROOT / "outputs"
TRACES = bool(os.environ.get("HYDRA_FULL_ERROR"))  # the user wants tracebacks
UNRELATED = ("store.", "wandb", "name=", "tags=", "notes=", "fresh=", "log_every=", "monitor=", "hydra")  # to the work
SEEDS = ("seed=", "data.fold=")  # what a setting is judged over
COLUMNS = ("size", "n_train", "n_valid", "n_classes", "data_id", "device")  # of W&B, known only at the end
GROUPS = ("scheduler", "rates", "resize", "backbone", "augment", "checklist", "optimizer", "head", "data", "loss")


def main() -> int:
    """Run what was typed; the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(shell.help_text(CONF))
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what goes wrong instead of printing it and leaving
    try:
        typed = shell.tidy(sys.argv[1:], CONF)
        for note in typed.notes:
            say(f"note: {note}")
        return compose_and_run(typed)
    except UserError as error:
        return refused(error)
    except signals.Stopped as stopped:
        print(stopped.line, file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print("stopped (signal 2)", file=sys.stderr)
        return 130
    except Exception as error:
        if TRACES:
            raise
        return refused(internal(error))


def compose_and_run(typed: shell.Typed) -> int:
    """Hand the command line to Hydra, which composes the configuration and starts one job or a sweep of them.

    A job never raises what is a failure of its own: its status.json says it, so that no launcher loses the others. The
    exit code is that of the first that failed.
    """
    import hydra

    register(typed.backbones)
    key = "hydra.sweep.dir=" if typed.multirun else "hydra.run.dir="
    given = [arg.removeprefix(key).strip("'\"") for arg in typed.argv if arg.startswith(key)]
    name = shell.folder_name(typed.argv, datetime.now(), typed.multirun)
    folder = Path(given[-1]) if given else unused(OUTPUTS / ("multirun" if typed.multirun else "runs") / name)
    os.environ["THAW_FOLDER"] = str(folder)
    sys.argv[1:] = typed.argv
    start = hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)
    try:
        start()
    except Exception as error:  # a job does not raise: this came of composing
        if TRACES:
            raise
        if disk := next((one for one in chain(error) if is_machine(one)), None):
            raise machine_error(disk, folder) from None
        raise shell.explain(error, typed.argv, CONF) from None
    ends = [json.loads(file.read_text()) for file in sorted(folder.glob("*/status.json"), key=by_number)]
    if ends:
        from thaw import report

        report.close_sweep(folder, say)
    elif (folder / "status.json").exists():
        ends = [json.loads((folder / "status.json").read_text())]
    # A job that still says it is running was killed, or could not write how it ended.
    return next((end.get("code", 5) for end in ends if end["state"] != "done"), 0)


def register(backbones: tuple[str, ...] = ()) -> None:
    """Give Hydra the schema, and a choice for every backbone that has no yaml: any timm name is one."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance().store
    store("schema", Settings)
    store("local", {})  # stands in where there is no conf/local.yaml
    for name in backbones:
        path, _, last = name.rpartition("/")
        node = {"name": name, "weights": "pretrained", "drop": 0.0, "drop_path": 0.0, "facts": {}}
        store(last, node, group="/".join(filter(None, ("backbone", path))), package="backbone")


def by_number(file: Path) -> tuple:
    name = file.parent.name
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def unused(folder: Path) -> Path:
    """The folder, or where it exists (two starts in one second) the first free name after it."""
    names = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))]
    return next(name for name in names if not name.exists())


def job(cfg) -> float | None:
    """One job: the composed configuration made into a plan and carried out; the value of `monitor`, for sweepers."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra_ = HydraConfig.get()
    folder = Path(hydra_.runtime.output_dir)
    overrides = list(hydra_.overrides.task)
    about = {"overrides": overrides, "command": command(overrides), "commit": commit()}
    status(folder, state="running", pid=os.getpid(), **about)
    signals.listen()
    try:
        settings = as_settings(cfg, overrides)
        for line in shell.no_effect(overrides, settings):
            say(f"warning: {line}")
        sweep = folder.parent.name if hydra_.mode.name == "MULTIRUN" else None
        choices = {group: choice for group, choice in hydra_.runtime.choices.items() if group in GROUPS}
        result = train(settings, folder, about, sweep, choices, OmegaConf.to_container(cfg, resolve=True))
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, signals.Stopped) else signals.Stopped(signal.SIGINT, "before training")
        status(folder, state="failed", code=stopped.code, line=stopped.line, **about)
        raise
    except Exception as error:
        error = as_refusal(error, folder)
        code = refused(error)
        with suppress(OSError):  # on a full disk the line on the terminal has to do
            status(folder, state="failed", code=code, line=error.line, **about)
        return None
    status(folder, state="done", **about)
    return result.get("best/" + settings.monitor.removeprefix("valid/")) if result else None


def as_settings(cfg, overrides: list[str]) -> Settings:
    """The composed configuration as plain dataclasses, values checked.

    Paths of our own outputs are anchored to the repository wherever the command is started.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        settings = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:  # data.root=???
        raise shell.explain(error, overrides, CONF) from None
    check(settings)
    settings.store.dir = str(ROOT / Path(settings.store.dir).expanduser())
    settings.wandb.dir = str(ROOT / Path(settings.wandb.dir).expanduser())
    return settings


def train(settings: Settings, folder: Path, about: dict, sweep: str | None, choices: dict, config: dict) -> dict | None:
    """Plan, and unless that is all that is wanted, train, export and report. The result as in result.json."""
    if settings.data.kind in ("folder", "csv") and not Path(settings.data.root).expanduser().exists():
        what = "folder" if settings.data.kind == "folder" else "file"
        raise UserError(3, f"data.root={settings.data.root}: no such {what}")
    keys.code_of(keys.ALL_CODE)  # the code that runs is the code that is there now
    store = tend.open_store(settings, say)
    look = sweep is None and not (settings.fresh or settings.plan_only)  # whether it was done before
    known = f"stamp_{again.stamp(settings)}"
    if look and (done := finished(store, store.recall(known).get("identity"))):
        return done
    planned = show_plan(settings, folder, store)
    if settings.plan_only:
        say(f"plan only: {shown(folder)}/plan.txt, plan.png")
        return None

    from thaw import track
    from thaw.job import set_up
    from thaw.run import run

    def opened(key: str) -> track.Tracker:
        identity = identity_of(settings, folder, about, sweep, choices, config, key)
        return track.open_tracker(folder, settings.wandb, track.Identity(**identity), say)

    try:
        job = set_up(settings, folder, store)
    except BaseException as error:
        opened(folder.name).finish({}, getattr(error, "code", 1))
        raise
    if job.plan.facts != planned.facts:  # what was '?' is known now
        say(table.table(job.plan, settings))
    store.remember(known, {"identity": job.identity})
    if look and (done := finished(store, job.identity)):
        return done
    begin_work(job, about)
    link("latest", folder if sweep is None else folder.parent)
    tracker = opened(job.identity)
    try:
        result = run(job, tracker.log)
    except BaseException as error:
        tracker.finish({}, getattr(error, "code", 1))
        raise
    result |= about | {"wandb_id": tracker.id, "wandb_offline": tracker.offline, "versions": versions()}
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    leave_report(job, result, tracker)
    summary(result, folder, sweep is None)
    say(f"store: {tend.show_bytes(store.added)} added to {shown(store.root)}")
    return result


def show_plan(settings: Settings, folder: Path, store: Store) -> plan.Plan:
    """Plan with what is known before anything is loaded; print it, write it, draw it."""
    planned = plan.plan(settings, plan.known_facts(settings, store.recall))
    text = table.table(planned, settings)
    say(text)
    (folder / "plan.txt").write_text(text)
    from thaw import report

    report.plan_png(table.timeline(planned, settings.find.steps), folder / "plan.png")
    return planned


def finished(store: Store, identity: str | None) -> dict | None:
    """The result of a run that depends on the same things, where one is finished; says so."""
    done = store.recall(f"finished_{identity}")
    if not done or not (file := Path(done["folder"]) / "result.json").exists():
        return None
    say(f"already done: accuracy {done['accuracy']:.2%}, {shown(file.parent)}; fresh=true trains anew")
    return json.loads(file.read_text())


def begin_work(job, about: dict) -> None:
    """Write what the run depends on into run.json; say what parts it from the work that lies there for its command."""
    typed = sorted(o for o in about["overrides"] if not o.startswith(UNRELATED))
    name = f"work_{plan.digest(typed)}"
    before = job.store.recall(name)
    if before and (why := keys.changed(before, job.parts)):
        say(f"not resuming: {why}; what does not depend on it comes from the store")
    job.store.remember(name, job.parts)
    (job.folder / "run.json").write_text(json.dumps(about | {"parts": job.parts}, indent=1))


def leave_report(job, result: dict, tracker) -> None:
    """The pictures and tables of a finished run, in its folder and on the dashboard."""
    from thaw import report

    settings, folder = job.settings, job.folder
    found = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("find_*.json"))}
    for name, curve in found.items():
        report.find_png(curve, folder / f"{name}.png")
    rates = {name: settings.lr_factor * curve["taken"] for name, curve in found.items()}
    report.plan_png(table.timeline(job.plan, settings.find.steps, rates), folder / "plan.png")
    report.run_report(folder, job.picture)
    tracker.configure({key: result[key] for key in COLUMNS})
    show(tracker, report, folder, job.picture)
    tracker.finish({key: value for key, value in result.items() if "/" in key or key == "bad_files"}, 0)


def identity_of(settings, folder: Path, about: dict, sweep: str | None, choices: dict, config: dict, key: str) -> dict:
    """What W&B shows of a job besides its numbers.

    The id follows from `key`, so that a resumed attempt goes on with its W&B run; a job of a sweep, and one that is
    trained anew, is a run of its own.
    """
    own = folder.name if sweep else str(datetime.now()) if settings.fresh else ""
    without_seed = [override for override in about["overrides"] if not override.startswith(SEEDS)]
    return {
        "id": plan.digest([sweep or "single", key, own]),
        "name": settings.name if settings.name and not sweep else shell.words(about["overrides"]) or "default",
        "group": (settings.name or sweep) if sweep else None,
        "tags": (settings.data.kind, settings.backbone.name, "sweep" if sweep else "single", *settings.tags),
        "notes": settings.notes,
        "config": {
            "cfg": config,
            **{f"choice.{group}": choice for group, choice in choices.items()},
            "setting": shell.words(without_seed) or "default",
            **{key: getattr(settings, key) for key in ("seed", "lr_factor", "batch_size")},
            **{key: about[key] for key in ("commit", "command")},
            "folder": shown(folder),
        },
    }


def show(tracker, report, folder: Path, picture) -> None:
    """The tables and pictures of a run, for the dashboard."""
    classes, rows = report.read_predictions(folder / "valid_predictions.csv")
    truth, predicted = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    counts = report.confusion(truth, predicted, classes)
    tracker.table("confusion", ["truth", *classes], [[name, *line] for name, line in zip(classes, counts, strict=True)])
    columns = ["class", "n", "precision", "recall", "f1", "most confused with"]
    tracker.table("per_class", columns, report.per_class(truth, predicted, classes))
    wrong = report.most_wrong(rows, 32)
    tracker.table(
        "most_wrong",
        ["picture", "path", "truth", "predicted", "confidence"],
        [[picture(w["path"]), w["path"], w["truth"], w["prediction"], w["confidence"]] for w in wrong],
    )
    for sheet in sorted(folder.glob("batch_*px.png")):
        tracker.picture(f"pictures/{sheet.stem}", sheet)


def summary(result: dict, folder: Path, single: bool) -> None:
    """The closing lines: what each phase bought, how good the result is, where it lies."""
    names = [key.split("/")[1] for key in result if key.startswith("phase/") and key.endswith("/accuracy")]
    rows = [
        (
            name,
            f"{result[f'phase/{name}/accuracy']:.2%}",
            f"{result[f'phase/{name}/loss']:.4f}",
            f"{result[f'phase/{name}/lr']:.3g}",
            str(result[f"phase/{name}/epochs"]),
            f"{result[f'phase/{name}/seconds']:.1f}",
        )
        for name in names
    ]
    say()
    for line in table.grid(("phase", "accuracy", "loss", "lr", "epochs", "seconds"), rows):
        say(line)
    test = f", test {result['test/accuracy']:.2%}" if "test/accuracy" in result else ""
    where = f"({result['best/phase']}), {result['cost/seconds']:.1f} s"
    say(f"\nbest, by validation loss: accuracy {result['best/accuracy']:.2%}{test} {where}")
    say(f"look:  {shown(folder)}/report.html")
    say(f"use:   python scripts/predict.py {shown(folder)} PICTURES")
    if single and result["wandb_offline"]:
        say(f"W&B, once logged in: wandb sync {result['wandb_offline']}")


def versions() -> dict:
    from importlib.metadata import version

    return {
        name: version(name)
        for name in ("torch", "timm", "albumentations", "opencv-python-headless", "hydra-core", "wandb")
    }


def status(folder: Path, **fields) -> None:
    """status.json: running, done, or failed with code and line."""
    temporary = folder / "status.json.tmp"
    temporary.write_text(json.dumps(fields, indent=1))
    temporary.replace(folder / "status.json")


def link(name: str, target: Path) -> None:
    """outputs/NAME points at the newest run or sweep."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)  # hydra.run.dir and store.dir may lie elsewhere
    path = OUTPUTS / name
    temporary = OUTPUTS / f".{name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(OUTPUTS) if target.is_relative_to(OUTPUTS) else target)
    temporary.replace(path)


def shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def command(overrides: list[str]) -> str:
    import shlex

    return shlex.join(["python", "src/train.py", *overrides])


def commit() -> str | None:
    done = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
    )
    return done.stdout.strip() or None


def chain(error: BaseException | None):
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def as_refusal(error: Exception, folder: Path) -> UserError:
    """Whatever ended a job, as a line: the user's doing, the machine's, or our own bug with its trace in train.log."""
    if isinstance(error, UserError):
        return error
    if is_machine(error):
        return machine_error(error, folder)
    try:
        with (folder / "train.log").open("a") as log:
            log.write(traceback.format_exc())
    except OSError:
        return internal(error)
    return internal(error, folder / "train.log")


def internal(error: Exception, log: Path | None = None) -> UserError:
    """Our own bug as a line."""
    where = f"; full trace in {log}" if log else "; HYDRA_FULL_ERROR=1 shows the trace"
    return UserError(1, f"internal: {type(error).__name__}: {str(error)[:120]}{where}; please report")


def refused(error: UserError) -> int:
    print(f"error: {error.line}", file=sys.stderr)
    return error.code


if __name__ == "__main__":
    sys.exit(main())
