"""What there is to set: keys, groups, choices and phases, and a page of it all.

Read from the text of conf/ and from the schema, without a yaml library. Standard library only.
"""

import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, get_type_hints

from thaw.settings import Settings

WIDTH = 100
QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""  # a string as Hydra quotes it
EXAMPLES = """
python src/train.py                                      the eight steps on digits, offline
python src/train.py 'data.root=~/photos'                 your pictures, a folder a class
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
python src/train.py experiment=audition 'data.root=~/photos'    which backbone suits your pictures
python scripts/show_batch.py 'data.root=~/photos'       sheets of what the network would see
python scripts/status.py                                 where the sweep is; the best so far
python scripts/compare.py RUN_A RUN_B                    settings, phases, pictures won and lost
python scripts/rerun.py RUN epochs=20                    a run again with more settings
python scripts/predict.py RUN PICTURES...                labels and probabilities
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


def split(arg: str) -> tuple[str, str, str | None]:
    """The sign (`+`, `++`, `~` or none), the key and the value of an override; None where there is no `=`."""
    sign, key, equals, value = re.fullmatch(r"(~|\+{0,2})([^=]*)(=?)(.*)", arg, re.S).groups()
    return sign, key.strip(), value.strip() if equals else None


def overrides_of(argv: list[str]) -> list[tuple[str, str, str | None]]:
    """The settings among the arguments, split."""
    return [split(arg) for arg in argv if not re.match(r"--?[A-Za-z]", arg) and (arg[:1] == "~" or "=" in arg)]


def choices(value: str) -> list[str]:
    """The values of a sweep such as `a,b` or `choice(a,b)`, without quotes."""
    inner = re.fullmatch(r"(?:choice|shuffle|sort)\((.*)\)", value.strip())
    return [part.strip(" '\"") for part in (inner[1] if inner else value).split(",")]


def unquoted(value: str) -> str:
    """The value without what is quoted in it."""
    return re.sub(QUOTED, "", value)


def depth(value: str) -> int:
    """How many brackets are left open, quoted ones not counted."""
    return sum((c in "[{(") - (c in "]})") for c in unquoted(value))


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def experiments(typed, *confs: Path) -> list[str]:
    """The text of each experiment that was typed and that there is, after the text of those that it builds on."""
    names = [name for _, key, value in typed if key == "experiment" and value for name in choices(value)]
    return [text for name in names for conf in confs for text in recipe(conf / "experiment" / f"{name}.yaml")]


def recipe(file: Path) -> list[str]:
    """The text of a yaml after those of its own folder that its defaults name."""
    if not file.is_file():
        return []
    text = read(file)
    bases = [base for base in re.findall(r"^ *- (\w+) *(?:#.*)?$", text, re.M) if base != file.stem]
    return [before for base in bases for before in recipe(file.with_name(f"{base}.yaml"))] + [text]


def chosen(typed, recipes: list[str]) -> dict[str, list[str]]:
    """The values that were typed for each key, or that an experiment's yaml chooses for a group."""
    choice = r"^[ \t]*(?:- *override +/?)?(\w+): *([^\s{\[#][^\n#]*)"
    pairs = [pair for text in recipes for pair in re.findall(choice, text, re.M)]
    pairs += [(key, value) for sign, key, value in typed if sign != "~" and value]
    out = {}
    for key, value in pairs:
        out[key] = out.get(key, []) + choices(value)
    return out


def group_names(conf: Path) -> list[str]:
    """The config groups, in the order of config.yaml, experiments last."""
    return [group for group in re.findall(r"^  - (\w+): ", read(conf / "config.yaml"), re.M) if (conf / group).is_dir()]


def choices_of(group: str, conf: Path) -> list[str]:
    """The choices of a group."""
    return sorted(file.stem for file in (conf / group).glob("*.yaml") if not file.name.startswith("_"))


def default_choice(group: str, conf: Path) -> str:
    """What config.yaml chooses of a group."""
    return re.search(rf"^  - {group}: *(\w+)", read(conf / "config.yaml"), re.M)[1]


def phase_names(argv: list[str], conf: Path) -> list[str]:
    """The phases of the checklist that the arguments choose, and those that they add."""
    typed = [split(arg) for arg in argv]
    recipes = experiments(typed, conf)
    names = chosen(typed, recipes).get("checklist") or [default_choice("checklist", conf)]
    files = [conf / "checklist" / f"{name}.yaml" for name in names]
    texts = [read(file) for file in files if file.is_file()] + recipes
    phases = [name for text in texts for name in re.findall(r"^ *(\w+): *\{ *do:", text, re.M)]
    added = [re.fullmatch(r"checklist\.(\w+)", key) for sign, key, _ in typed if sign != "~"]
    return list(dict.fromkeys(phases + [match[1] for match in added if match]))


@cache
def schema() -> dict[str, Any]:
    """The type of every key, dotted."""

    def walk(cls, prefix):
        for key, hint in get_type_hints(cls).items():
            yield prefix + key, hint
            if is_dataclass(hint):
                yield from walk(hint, f"{prefix}{key}.")

    return dict(walk(Settings, ""))


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
    lines += section("keys of data", data_lines(conf))
    lines += section("keys of augment", settings_of(read(conf / "augment" / "_shared.yaml"), "augment."))
    lines += section("where the results are", RESULTS.strip().splitlines())
    lines += section("exit codes", CODES.strip().splitlines())
    return "\n".join(lines) + "\n"


def section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}".rstrip() for line in lines)]


def columns(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Two columns, the second wrapped."""
    out = []
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
    for group in group_names(conf):
        rows.append((group, comments.get(group, "")))
        for name in choices_of(group, conf):
            mark = "*" if name == default_choice(group, conf) else " "
            rows.append((f"{mark} {name}", described(conf / group / f"{name}.yaml")))
    return columns(rows, max(len(left) for left, _ in rows))


def key_lines(conf: Path) -> list[str]:
    """The keys of config.yaml that are no groups, with their values and comments."""
    return settings_of(re.split(r"^hydra:", read(conf / "config.yaml").partition("\n\n")[2], flags=re.M)[0])


def data_lines(conf: Path) -> list[str]:
    """What all choices of `data` share, and after it what only the table has."""
    own = re.sub(r"^(defaults|kind|facts):.*\n", "", read(conf / "data" / "csv.yaml"), flags=re.M)
    return settings_of(read(conf / "data" / "_pictures.yaml") + own, "data.")


def settings_of(text: str, prefix: str = "") -> list[str]:
    """The keys in the text of a yaml with their values and comments."""
    rows, parent = [], ""
    for indent, key, value, comment in re.findall(r"^( *)(\w+):[ \t]*([^#\n]*?)[ \t]*(?:# *(.*))?$", text, re.M):
        parent = parent if indent else key
        name = prefix + (f"{parent}.{key}" if indent else key)
        rows.append((f"{name}={value}" if indent or value else name, comment))
    return columns(rows, max(len(left) for left, _ in rows))
