"""The text of --help, read from conf/ and from the schema.

Descriptions are the comments of the yaml files, which no yaml library returns. Imports next to nothing.
"""

import re
from contextlib import suppress
from pathlib import Path
from textwrap import wrap

from thaw.config.composed import CHOSEN
from thaw.config.conf_files import choices_of, default_choices, read
from thaw.config.options import option_names

WIDTH = 100
LEFT = 60  # widest left column; the description of a longer entry starts on the next line
EXAMPLES = """
python src/train.py    the eight steps on digits, offline
python src/train.py 'data.root=~/photos'    your images, one folder per class
python src/train.py 'data.root=~/photos' plan_only=true    only print the plan
python src/train.py backbone=convnextv2_tiny    any network in timm
python src/train.py scheduler=one_cycle epochs=7    another schedule of the same length
python src/train.py 'rates.ratios=[0.01,0.1,1]'    three layer groups, first to last
python src/train.py 'lr=[1e-5,1e-4,1e-3]'    their learning rates, not searched
python src/train.py checklist.full.lr=0.01    the learning rate of one phase
python src/train.py '~checklist.head_augmented'    without one of the phases
python src/train.py experiment=lesson1 'data.root=~/photos'    a recipe
python src/train.py experiment=ablation 'data.root=~/photos'    what each step contributes
python src/train.py experiment=audition 'data.root=~/photos'    which backbone suits your images
python src/train.py seeds=5    the run with seeds 0 to 4: mean and standard deviation
python src/train.py -m scheduler=sgdr,one_cycle seeds=3    a sweep of six jobs
python src/train.py -m lr_factor=0.3,1,3 plan_only=true    the plan of a sweep
python src/train.py -m seed=0,1,2 hydra/launcher=joblib    several jobs at once
python src/train.py -m hydra/sweeper=optuna 'lr_factor=interval(0.1,3)'    a search
python scripts/show_batch.py 'data.root=~/photos'    the images as the network sees them
python scripts/status.py    progress of the last sweep
python scripts/compare.py RUN_A RUN_B    what differs between two runs
python scripts/rerun.py RUN epochs=20    repeat a run with other settings
python scripts/predict.py RUN IMAGES...    labels and probabilities
"""

FLAGS = """
-m, --multirun    run a sweep: every combination of the values that commas separate
--cfg job    print the composed settings, and exit
--info defaults    print where each choice comes from, and exit
--config-dir DIR    add a folder of yaml files with the layout of conf/
-sc install=bash    set up tab completion: eval "$(python src/train.py -sc install=bash)"
-h, --help    print this page, including the choices in --config-dir, and exit
--hydra-help    print all flags of Hydra, and exit
"""

PHASE = """
checklist.PHASE.do    find (a learning rate) | fit (train)
checklist.PHASE.train    head | all; default: as in the phase before
checklist.PHASE.features    precomputed (stored) | live (images); default: as in the phase before, live for train=all
checklist.PHASE.views    with features=precomputed: number of stored augmented passes; default: the plain view
checklist.PHASE.epochs    in place of cycles; the rate falls in a straight line, or with anneal=false is constant
checklist.PHASE.cycles    like scheduler.cycles, for this phase; also cycle_len, cycle_mult and max_cycles
checklist.PHASE.until    overfit: stop when further cycles no longer help
checklist.PHASE.lr    learning rate of the last layer group; default: what the last find phase found, times lr_factor
"""

RESULTS = """
outputs/latest    link to the last run or sweep
outputs/runs/DATE_TIME_NAME    a run: plan.txt, report.html, model.safetensors, result.json and more
outputs/multirun/DATE_TIME_NAME_ID    a sweep: its leaderboard and report, and one folder per job
outputs/store    stored results, from which the same command continues
outputs/wandb    files of W&B; to view them without an account: wandb leet outputs/wandb
"""

CODES = """
0    success
1    internal error
2    wrong settings
3    unusable data
4    failed numerics: a loss that is not finite
5    unsuitable machine: no GPU, too little memory or disk space, and the like
6    refused checkpoint, run or store
129, 130, 143    stopped by a signal; the same command continues
"""

PLUGINS = {  # groups of Hydra: the default choice and a description
    "hydra/launcher": ("in_turn", "how the jobs of a sweep run"),
    "hydra/sweeper": ("basic", "which jobs a sweep runs; default: every combination of the values"),
}
# Keys that a choice of the group sets.
HIDDEN = ("data.kind", "backbone.name", "head.kind", "scheduler.shape", "optimizer.name", "wandb.mode")
WITHOUT_OPTIONS = ("checklist", "experiment", "without")


def help_text(conf: Path, *more: Path) -> str:
    """Return the text of --help, at most 100 columns wide, with the choices of further folders of yaml files."""
    groups = [group for group in default_choices(conf) if group not in WITHOUT_OPTIONS]
    lines = ["thaw: train an image classifier from a pretrained network by fast.ai's eight steps", ""]
    lines += ["usage: python src/train.py [GROUP=CHOICE ...] [GROUP.OPTION=VALUE ...] [KEY=VALUE ...] [flags]"]
    lines += section("examples", columns(table(EXAMPLES)))
    lines += section("flags, in any position", columns(table(FLAGS)))
    lines += section("groups and their choices (* marks the default)", group_lines(conf, *more))
    lines += section("settings outside groups, with their defaults", columns(setting_rows(own_settings(conf)), 26))
    title = "options of groups, with their usual defaults (--cfg job prints those of your command)"
    lines += section(title, columns([row for group in groups for row in option_rows(group, conf)], 30))
    lines += section("settings of a phase of the checklist, such as checklist.full.lr=0.01", columns(table(PHASE)))
    lines += section("results", columns(table(RESULTS)))
    lines += section("exit codes", columns(table(CODES)))
    return "\n".join(lines) + "\n"


def section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}".rstrip() for line in lines)]


def table(text: str) -> list[tuple[str, str]]:
    """Return the rows of a text whose two columns are separated by at least two spaces."""
    return [tuple(re.split(" {2,}", line, maxsplit=1)) for line in text.strip().splitlines()]


def columns(rows: list[tuple[str, str]], most: int = LEFT) -> list[str]:
    """Lay out two columns, the left one at most `most` wide and the right one wrapped."""
    width, out = max(len(left) for left, _ in rows if len(left) <= most), []
    for left, right in rows:
        first, *wrapped = wrap(right, WIDTH - 4 - width, break_on_hyphens=False) or [""]
        if len(left) > width:
            out, left = [*out, left], ""
        out += [f"{left:<{width}}  {first}".rstrip(), *(" " * (width + 2) + line for line in wrapped)]
    return out


def described(file: Path) -> str:
    """Return the first comment of a yaml, which describes it, or "" if it has none or cannot be read."""
    with suppress(OSError, UnicodeError):
        lines = [line[1:].strip() for line in read(file).splitlines() if line.startswith("#")]
        return next((line for line in lines if not line.startswith("@package")), "").rstrip(":")
    return ""


def group_lines(conf: Path, *more: Path) -> list[str]:
    """Return every group with its choices and their descriptions."""
    rows, comments = [], dict(re.findall(r"^  - (\w+): [^#\n]*# *(.*)", read(conf / "config.yaml"), re.M))
    groups = {group: (default, comments.get(group, "")) for group, default in default_choices(conf).items()}
    for group, (default, comment) in {**groups, **PLUGINS}.items():
        rows.append((group, comment))
        for name in choices_of(group, conf, *more):
            file = next(file for one in (conf, *more) if (file := one / group / f"{name}.yaml").exists())
            rows.append((f"{'*' if name == default else ' '} {name}", described(file)))
    return columns(rows)


def own_settings(conf: Path) -> str:
    """Return the part of config.yaml with the settings outside groups."""
    return re.split(r"^hydra:", read(conf / "config.yaml").partition("\n\n")[2], flags=re.M)[0]


def option_rows(group: str, conf: Path) -> list[tuple[str, str]]:
    """Return the options of a group, each with its value and comment.

    The value is that of the base file, else of the default choice, else of the first choice that has the option. The
    comment is the first in the same order, after the choices that read the option if not all do.
    """
    default, choices = default_choices(conf)[group], CHOSEN[group][1] if group in CHOSEN else {}
    names = [*(file.stem for file in (conf / group).glob("_*.yaml")), default, *choices, *choices_of(group, conf)]
    settings, comments = {}, {}
    for name in dict.fromkeys(names):
        for setting, comment in setting_rows(read(conf / group / f"{name}.yaml"), f"{group}."):
            key = setting.partition("=")[0]
            settings.setdefault(key, setting)
            comments[key] = comments.get(key) or comment
    rows = []
    for key, setting in settings.items():
        option = key.split(".", 1)[1]
        if key in HIDDEN or option in ("defaults", "facts") or "." in option:
            continue
        readers = [name for name, choice in choices.items() if option in option_names(choice)]
        rows.append((setting, f"{', '.join(readers)}: {comments[key]}" if readers else comments[key]))
    return rows


def setting_rows(text: str, prefix: str = "") -> list[tuple[str, str]]:
    """Return the settings in the text of a yaml, as KEY=VALUE or as KEY if it has no value, and their comments."""
    rows, parent = [], ""
    for indent, key, value, comment in re.findall(r"^( *)(\w+):[ \t]*([^#\n]*?)[ \t]*(?:# *(.*))?$", text, re.M):
        parent = parent if indent else key
        name = prefix + (f"{parent}.{key}" if indent else key)
        rows.append((f"{name}={value}" if (indent or value) and value != "???" else name, comment))
    return rows
