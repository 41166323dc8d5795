"""What there is to set: keys, groups, choices and phases, and a page of it all.

Read from conf/ and from the schema; the comments, which no yaml library gives, from the text. Loads next to nothing.
"""

import re
from pathlib import Path
from textwrap import wrap

from thaw.config.composed import CHOSEN
from thaw.config.conf_files import choices_of, default_choices, read
from thaw.config.options import all_options, option_names

WIDTH = 100
EXAMPLES = """
python src/train.py                                      the eight steps on digits, offline
python src/train.py 'data.root=~/photos'                 your images, a folder a class
python src/train.py 'data.root=~/photos' plan_only=true  the plan of it, nothing is trained
python src/train.py backbone=convnextv2_tiny             any name that timm knows
python src/train.py scheduler=one_cycle epochs=7         another schedule, the same budget
python src/train.py 'rates.ratios=[0.01,0.1,1]'          three layer groups, first layers first
python src/train.py 'lr=[1e-5,1e-4,1e-3]'                their rates: there is nothing to find
python src/train.py checklist.full.lr=0.01               the rate of one phase
python src/train.py '~checklist.head_augmented'          a phase left out
python src/train.py experiment=lesson1 'data.root=~/photos'
python src/train.py experiment=ablation 'data.root=~/photos'   what each step buys there
python src/train.py -m scheduler=sgdr,one_cycle rates=uniform,thirds seed=0,1,2
python src/train.py -m scheduler=sgdr,one_cycle seed=0,1 plan_only=true   what it would cost
python src/train.py -m hydra/sweeper=optuna 'lr_factor=interval(0.1,3)'    a search; or =halving
python src/train.py experiment=audition 'data.root=~/photos'    which backbone suits your images
python scripts/show_batch.py 'data.root=~/photos'       sheets of what the network would see
python scripts/status.py                                 where the sweep is; the best so far
python scripts/compare.py RUN_A RUN_B                    settings, phases, images won and lost
python scripts/rerun.py RUN epochs=20                    a run again with more settings
python scripts/predict.py RUN IMAGES...                labels and probabilities
"""

FLAGS = """
-m, --multirun      a sweep: every combination of the values that commas separate
--cfg job           print the composed settings, every option of every group, and stop
--info defaults     print which choice came from where, and stop
--config-dir DIR    a folder of further yaml files, laid out as conf/
-sc install=bash    tab completion: eval "$(python src/train.py -sc install=bash)"
-h, --help          this page; --hydra-help for Hydra's own flags
"""

RESULTS = """
outputs/latest                      a link to the last run
outputs/runs/DATE_TIME_NAME         plan.txt, report.html, model.safetensors, result.json and more
outputs/multirun/DATE_TIME_NAME_ID  a sweep: its runs, a folder each
outputs/store                       what is done stays done: the same command goes on from here
outputs/wandb                       W&B's files: wandb leet outputs/wandb, without an account
"""

CODES = """
0  done                    3  the data           6        a checkpoint or the store was refused
1  our mistake             4  the numbers        129/130/143  stopped, the same command goes on
2  the settings            5  the machine
"""


def help_text(conf: Path) -> str:
    """Everything that can be typed, at most 100 columns wide."""
    lines = [
        "thaw: a pretrained network, from frozen to a finished image classifier, by fast.ai's eight steps",
        "",
        "usage: python src/train.py [GROUP=CHOICE ...] [KEY=VALUE ...] [flags]",
    ]
    lines += section("what people type", EXAMPLES.strip().splitlines())
    lines += section("flags, in any place", FLAGS.strip().splitlines())
    lines += section("groups (* where nothing is typed); GROUP.OPTION=VALUE, as scheduler.cycles=4", group_lines(conf))
    lines += section("keys, as they are where nothing is typed", key_lines(conf))
    lines += section("keys of scheduler", columns(budget_rows(conf) + option_rows("scheduler", conf)))
    lines += section("keys of optimizer", columns(option_rows("optimizer", conf)))
    lines += section("keys of data", data_lines(conf))
    lines += section("keys of augment", setting_lines(read(conf / "augment" / "_shared.yaml"), "augment."))
    lines += section("where the results are", RESULTS.strip().splitlines())
    lines += section("exit codes", CODES.strip().splitlines())
    return "\n".join(lines) + "\n"


def section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}".rstrip() for line in lines)]


def columns(rows: list[tuple[str, str]]) -> list[str]:
    """Two columns, the second wrapped."""
    width, out = max(len(left) for left, _ in rows), []
    for left, right in rows:
        first, *more = wrap(right, WIDTH - 4 - width) or [""]
        out += [f"{left:<{width}}  {first}".rstrip(), *(" " * (width + 2) + line for line in more)]
    return out


def described(file: Path) -> str:
    """The first line of comment that describes a yaml."""
    lines = [line[1:].strip() for line in read(file).splitlines() if line.startswith("#")]
    return next((line for line in lines if not line.startswith("@package")), "").rstrip(":")


def group_lines(conf: Path) -> list[str]:
    rows, comments = [], dict(re.findall(r"^  - (\w+): [^#\n]*# *(.*)", read(conf / "config.yaml"), re.M))
    for group, default in default_choices(conf).items():
        rows.append((group, comments.get(group, "")))
        for name in choices_of(group, conf):
            mark = "*" if name == default else " "
            rows.append((f"{mark} {name}", described(conf / group / f"{name}.yaml")))
    return columns(rows)


def key_lines(conf: Path) -> list[str]:
    """The keys of config.yaml that are no groups, with their values and comments."""
    return setting_lines(re.split(r"^hydra:", read(conf / "config.yaml").partition("\n\n")[2], flags=re.M)[0])


def data_lines(conf: Path) -> list[str]:
    """What all choices of `data` share, and after it what only the table has."""
    own = re.sub(r"^(defaults|kind|facts):.*\n", "", read(conf / "data" / "csv.yaml"), flags=re.M)
    return setting_lines(read(conf / "data" / "_images.yaml") + own, "data.")


def budget_rows(conf: Path) -> list[tuple[str, str]]:
    """The keys that all schedulers share."""
    return setting_rows(read(conf / "scheduler" / "_budget.yaml"), "scheduler.")


def option_rows(group: str, conf: Path) -> list[tuple[str, str]]:
    """Every option of a group's choices, with the choices that read it; value and comment are those of the default, or
    where it has no such option of the first."""
    _, choices = CHOSEN[group]
    rows, default = [], default_choices(conf)[group]
    for option in all_options(choices.values()):
        key, readers = f"{group}.{option}", [name for name, one in choices.items() if option in option_names(one)]
        one = default if default in readers else readers[0]
        stated = setting_rows(read(conf / group / f"{one}.yaml"), f"{group}.")
        setting, comment = next(row for row in stated if row[0].partition("=")[0] == key)
        rows.append((setting, f"{', '.join(readers)}: {comment}".removesuffix(": ")))
    return rows


def setting_lines(text: str, prefix: str = "") -> list[str]:
    return columns(setting_rows(text, prefix))


def setting_rows(text: str, prefix: str = "") -> list[tuple[str, str]]:
    """The keys in the text of a yaml with their values, and their comments."""
    rows, parent = [], ""
    for indent, key, value, comment in re.findall(r"^( *)(\w+):[ \t]*([^#\n]*?)[ \t]*(?:# *(.*))?$", text, re.M):
        parent = parent if indent else key
        name = prefix + (f"{parent}.{key}" if indent else key)
        rows.append((f"{name}={value}" if indent or value else name, comment))
    return rows
