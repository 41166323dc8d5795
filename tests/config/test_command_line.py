"""Tests of the command line: what composes, and the one-line errors for what does not."""

import os
import re
import shlex
import shutil
from datetime import datetime
from pathlib import Path
from time import perf_counter

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import OmegaConf

from thaw.config import conf_files
from thaw.config import help as page
from thaw.config.command_line import normalise
from thaw.config.compose import compose_settings, is_accepted, to_dataclasses
from thaw.config.composed import Composed, pick
from thaw.config.flags import unchecked_config_dirs
from thaw.config.help import help_text
from thaw.config.hydra_errors import explain
from thaw.config.run_names import folder_name, short_name
from thaw.config.schema import Settings
from thaw.plan.facts import Facts
from thaw.plan.phases import PHASE_KEYS
from thaw.plan.plan import make_plan
from thaw.plan.unused_settings import no_effect, unused_valid_share
from thaw.runtime.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
EXPERIMENTS = ", ".join(sorted(file.stem for file in (REPOSITORY / "conf/experiment").glob("*.yaml")))
WHEN = datetime(2027, 3, 1, 9, 5, 7)


@pytest.fixture(scope="module")
def conf(tmp_path_factory) -> Path:
    """Return the repository's conf/ without conf/local.yaml."""
    conf = tmp_path_factory.mktemp("shell") / "conf"
    shutil.copytree(REPOSITORY / "conf", conf, ignore=shutil.ignore_patterns("local.yaml"))
    return conf


@pytest.fixture(scope="module", autouse=True)
def hydra(conf):
    """Initialise Hydra once for this module, as train.py does."""
    GlobalHydra.instance().clear()
    store = ConfigStore.instance()
    store.store("schema", Composed)
    store.store("local", {})
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        yield


def typed(conf: Path, *args: str) -> Settings:
    """Return the settings that a command line composes to."""
    argv = normalise(list(args), conf).argv
    for name in normalise(list(args), conf).backbones:
        node = {"name": name, "weights": "pretrained", "drop": 0.0, "drop_path": 0.0, "facts": {}}
        ConfigStore.instance().store(group="backbone", name=name, node=node)
    return pick(OmegaConf.to_object(compose("config", overrides=[arg for arg in argv if arg != "-m"])))


def accepted(word: str) -> bool:
    """Return whether a word composes, keeping the Hydra of this module."""
    kept = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        return is_accepted(word)
    finally:
        restore_gh_from_backup(kept)


def refused(conf: Path, *args: str) -> str:
    """Return the error line of a command line; its exit code must be 2."""
    argv = list(args)
    with pytest.raises(UserError) as raised:
        argv = normalise(argv, conf).argv
        try:
            OmegaConf.to_object(compose("config", overrides=argv))
        except Exception as error:
            raise explain(error, argv, conf, accepted) from error
    assert raised.value.code == 2
    return raised.value.line


# normalise ------------------------------------------------------------------------------------------------------------

OWN = "data=folder backbone=resnet50 augment=standard"
TABLE = OWN.replace("folder", "csv")


@pytest.mark.parametrize(
    ("args", "argv"),
    [
        # Flags in any position.
        (["seed=1", "-m", "lr=1e-3,1e-2"], ["-m", "seed=1", "lr=1e-3,1e-2"]),
        (["seed=1", "--cfg", "job", "lr=1"], ["--cfg", "job", "seed=1", "lr=1"]),
        (["seed=1", "-c", "lr=1"], ["-c", "job", "seed=1", "lr=1"]),
        (["seed=1", "--cfg=job"], ["--cfg", "job", "seed=1"]),
        (["--info", "seed=1"], ["--info", "all", "seed=1"]),
        (["seed=1", "--info", "defaults-tree"], ["--info", "defaults-tree", "seed=1"]),
        (["a=1", "-p", "data", "--cfg", "all", "--resolve"], ["-p", "data", "--cfg", "all", "--resolve", "a=1"]),
        (["seed=1", "-cd", "conf", "lr=1"], ["--config-dir=/checkout/conf", "seed=1", "lr=1"]),
        (["--config-dir=/checkout/conf", "lr=1"], ["--config-dir=/checkout/conf", "lr=1"]),
        (["seed=1", "--hydra-help"], ["--hydra-help"]),
        (["seed=1", "--version", "-m"], ["--version"]),
        (["seed=1", "-sc", "install=zsh"], ["-sc", "install=zsh"]),
        (["--", "seed=1", ""], ["seed=1"]),
        # A plus only in dictionaries with new entries: Hydra would accept +lrr=1 silently.
        (["+experiment=schedulers"], ["experiment=schedulers"]),
        (["++lr=1"], ["lr=1"]),
        (["checklist.full.lr=0.01"], ["++checklist.full.lr=0.01"]),
        (["checklist=fine_tune", "checklist.head.lr=0.01"], ["checklist=fine_tune", "++checklist.head.lr=0.01"]),
        (["checklist.head.lr=1"], ["checklist.head.lr=1"]),
        (["+checklist.extra={do: fit, epochs: 3}"], ["++checklist.extra={do: fit, epochs: 3}"]),
        (["augment.transforms.Blur={p: 0.5}"], ["++augment.transforms.Blur={p: 0.5}"]),
        (["~checklist.find_full"], ["~checklist.find_full"]),
        (["hydra.job.env_set.A=1"], ["++hydra.job.env_set.A=1"]),
        # Extra spaces.
        (["lr", "=", "0.1"], ["lr=0.1"]),
        (["lr=", "0.1"], ["lr=0.1"]),
        (["lr", "=0.1", "seed=1"], ["lr=0.1", "seed=1"]),
        (["seed=0,", "1,", "2", "-m"], ["-m", "seed=0, 1, 2"]),
        (["lr=[1e-4,", "1e-3,", "1e-2]"], ["lr=[1e-4, 1e-3, 1e-2]"]),
        ([" seed=1\r"], ["seed=1"]),
        # Other names of the metric.
        (["monitor=val/loss"], ["monitor=valid/loss"]),
        (["monitor=validation/accuracy"], ["monitor=valid/accuracy"]),
        (["monitor=valid/loss"], ["monitor=valid/loss"]),
        # Free text.
        (["name=it's (a, b) = c"], ["name='it\\'s (a, b) = c'"]),
        (["notes='quoted, already'"], ["notes='quoted, already'"]),
        (["name=null"], ["name=null"]),
        (["name=1e5"], ["name='1e5'"]),
        # Paths.
        (["init=/a b"], ["init='/a b'"]),
        (["init='/a b'"], ["init='/a b'"]),
        (["init=null"], ["init=null"]),
        (["backbone.weights=none"], ["backbone.weights=none"]),
        (["wandb.dir=${oc.env:HOME}/x"], ["wandb.dir=${oc.env:HOME}/x"]),
        (["store.dir=~/s"], ["store.dir=/home/ann/s"]),
        (['init="~/s t"'], ["init='/home/ann/s t'"]),
        (
            ["data.root=.", "data=folder", "backbone=tiny", "augment=none"],
            ["data.root=/checkout", "data=folder", "backbone=tiny", "augment=none"],
        ),
        (["store.dir='a, b'"], ["store.dir='/checkout/a, b'"]),
        (["wandb.dir=a/../b"], ["wandb.dir=/checkout/a/../b"]),
        (["init=${oc.env:RUN}"], ["init=${oc.env:RUN}"]),
        (["-m", "name=${oc.env:A}", "init=${oc.env:B}/x"], ["-m", "name='${oc.env:A}'", "init='${oc.env:B}/x'"]),
        (["init=runs/${seed}"], ["init=/checkout/runs/${seed}"]),
        (["init='${oc.env:RUN,a b}'"], ["init='${oc.env:RUN,a b}'"]),
        (
            ["data.root=???", "data=folder", "backbone=tiny", "augment=none"],
            ["data.root=???", "data=folder", "backbone=tiny", "augment=none"],
        ),
        (["hydra.run.dir=runs/a"], ["hydra.run.dir=/checkout/runs/a"]),
        (["-m", "hydra.sweep.dir=my sweep"], ["-m", "hydra.sweep.dir='/checkout/my sweep'"]),
        (["backbone.weights=packaged"], ["backbone.weights=packaged"]),
        (
            ["backbone.weights=conf/backbone/tiny.safetensors"],
            ["backbone.weights=/checkout/conf/backbone/tiny.safetensors"],
        ),
        (["backbone.weights=nowhere.safetensors"], ["backbone.weights=nowhere.safetensors"]),
        # Groups that data.root implies.
        (["data.root=/p"], ["data.root=/p", *OWN.split()]),
        (["data=folder", "data.root=/p"], ["data=folder", "data.root=/p", *OWN.split()[1:]]),
        (["backbone=tiny", "data.root=/p"], ["backbone=tiny", "data.root=/p", "data=folder", "augment=standard"]),
        (["experiment=lesson1", "data.root=/p"], ["experiment=lesson1", "data.root=/p"]),
        (["data=digits", "data.root=/p"], ["data=digits", "data.root=/p"]),
        (["data.root=null"], ["data.root=null"]),
        (["data.root=/l.csv"], ["data.root=/l.csv", *TABLE.split()]),
        (["data.root='/my l.TSV'"], ["data.root='/my l.TSV'", *TABLE.split()]),
        (["data=folder", "data.root=/l.csv"], ["data=folder", "data.root=/l.csv", *OWN.split()[1:]]),
        (["data=torchvision", "data.root=/p"], ["data=torchvision", "data.root=/p", *OWN.split()[1:]]),
        (
            ["data.root=/l.csv", "data.images=~/p q"],
            ["data.root=/l.csv", "data.images='/home/ann/p q'", *TABLE.split()],
        ),
        (["data.labels=fixes.csv", "data.classes=null"], ["data.labels=/checkout/fixes.csv", "data.classes=null"]),
        (["data.group=(p\\d+)_[a, b]"], ["data.group='(p\\d+)_[a, b]'"]),
        (["data.label_column=the label"], ["data.label_column='the label'"]),
        (["data.split_column=none", "data.group=null"], ["data.split_column=none", "data.group=null"]),
    ],
)
def test_normalise(conf, monkeypatch, args, argv):
    """Also normalise the result again in another folder, which must not change it."""
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(REPOSITORY)
    argv = [word.replace("/checkout", str(REPOSITORY)) for word in argv]
    typed = [word.replace("/checkout", str(REPOSITORY)) for word in args]
    assert normalise(typed, conf).argv == argv
    monkeypatch.chdir("/")
    assert normalise(argv, conf).argv == argv


@pytest.mark.parametrize(
    "folder",
    ["photos", "Äpfel", "鳥", "Ann's", "My Birds (2024)", "a=b", "a,b", "[x]{y}", 'say "hi"', "100 %", "a\\", "b\\'c"]
    + ["$x", "007", "1e5", "true", "-dash", "a:b#c"],
)
def test_any_folder_name_can_be_typed(conf, folder):
    argv = normalise([f"data.root=/data/{folder}", f"init={folder}"], conf).argv[:2]
    values = [override.value() for override in OverridesParser.create().parse_overrides(argv)]
    assert values == [f"/data/{folder}", str(Path.cwd() / folder)]


@pytest.mark.parametrize(
    "pattern", [r"^(\w+?)_\d{2,3}\.jpe?g$", r"[^/]+(?=/)", r"a\\b", "it's", "x=y", r"(?P<id>p\d+),"]
)
def test_any_regular_expression_can_be_typed(conf, pattern):
    assert typed(conf, "data.root=/p", f"data.group={pattern}").data.group == pattern


def test_a_table_as_root_implies_csv(conf):
    settings = typed(conf, "data.root=/l.csv", "data.label_column=a b")
    assert (settings.data.kind, settings.backbone.name, settings.data.label_column) == ("csv", "resnet50", "a b")
    assert typed(conf, "data=torchvision").data.root == "~/.cache/thaw"


def test_home_is_expanded(conf, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann o'neil")
    assert typed(conf, "data.root=~/photos").data.root == "/home/ann o'neil/photos"


def test_commas_in_a_sweep_of_paths(conf, tmp_path, monkeypatch):
    for name in ("a", "b c", "a,d"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)

    def root(value):
        return next(arg for arg in normalise(["-m", f"data.root={value}"], conf).argv if arg.startswith("data.root="))

    assert root("a,b c") == f"data.root={tmp_path}/a,'{tmp_path}/b c'"
    assert root("a,d") == f"data.root='{tmp_path}/a,d'"
    assert root("a,nowhere") == f"data.root='{tmp_path}/a,nowhere'"
    assert root("'a','b c'") == f"data.root={tmp_path}/a,'{tmp_path}/b c'"
    assert root("choice(a, 'b c')") == f"data.root=choice({tmp_path}/a,'{tmp_path}/b c')"
    assert root("sort(a,b,reverse=true)") == f"data.root=sort({tmp_path}/a,{tmp_path}/b,reverse=true)"
    assert root("glob(*)") == "data.root=glob(*)"
    assert "data.root=a,d is taken as one path, not as a sweep" in normalise(["-m", "data.root=a,d"], conf).notes
    assert normalise(["-m", "backbone.weights=none,pretrained"], conf).argv == [
        "-m",
        "backbone.weights=none,pretrained",
    ]


def test_a_sweep_keeps_quotes(conf):
    argv = normalise(["-m", "name=it's, (a) \\", "data.root=/a, 'b' = c", "seed=0,1"], conf).argv[1:]
    jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(argv), max_batch_size=None)[0]
    for seed, job in enumerate(jobs):
        settings = OmegaConf.to_object(compose("config", overrides=list(job)))
        assert (settings.seed, settings.name, settings.data.root) == (seed, "it's, (a) \\", "/a, 'b' = c")


@pytest.mark.parametrize(
    ("args", "backbones"),
    [
        (["backbone=resnet50"], ()),
        (["backbone=convnextv2_tiny"], ("convnextv2_tiny",)),
        (["-m", "backbone=resnet18,resnet50.a1_in1k,test_vit"], ("resnet50.a1_in1k", "test_vit")),
        (["-m", "backbone=choice(resnet26, 'test_vit')"], ("resnet26", "test_vit")),
        (["-m", "backbone=glob(*)"], ()),
        (["backbone=hf-hub:timm/resnet26"], ("hf-hub:timm/resnet26",)),
        (["backbone.weights=none"], ()),
        (["data.root=/p"], ()),
    ],
)
def test_backbones_without_a_yaml(conf, args, backbones):
    assert normalise(args, conf).backbones == backbones


def test_an_experiment_may_name_any_backbone(conf, tmp_path):
    mine = tmp_path / "conf"
    shutil.copytree(conf, mine)
    overrides = "  - override /data: folder\n  - override /backbone: resnet26  # new\n"
    (mine / "experiment" / "mine.yaml").write_text(f"# @package _global_\n# mine\ndefaults:\n{overrides}")
    got = normalise(["experiment=mine"], mine)
    assert got.backbones == ("resnet26",) and got.argv == ["experiment=mine", "augment=standard"]
    assert normalise(["experiment=mine", "--config-dir", str(mine)], conf).backbones == ("resnet26",)


def test_an_experiment_has_the_choices_of_its_base(conf):
    """Then data.root does not imply a backbone or augmentation, and the experiment's own choices override its base."""
    assert normalise(["experiment=lesson1", "data.root=/p"], conf).argv == ["experiment=lesson1", "data.root=/p"]
    assert normalise(["experiment=lesson1_resnext50"], conf).backbones == ("resnext50_32x4d.tv_in1k",)
    assert typed(conf, "experiment=lesson1", "data.root=/p").head.kind == "fastai"


RECIPES = [  # the text of an experiment, and the error
    ("", "an experiment needs the first line '# @package _global_'"),
    ("lr: 1", "an experiment needs the first line '# @package _global_'"),
    ("- a list", "must contain one `key: value` per line, as the yaml files in conf/ do"),
    ("3", "must contain one `key: value` per line, as the yaml files in conf/ do"),
    ("defaults: [", "not valid yaml: did not find expected node content in line 2"),
    ("\0", "not valid yaml: it contains characters that yaml does not allow"),
    ("caf\udce9", "not UTF-8 text"),
    ("defaults: [mine]", "its defaults form a cycle: mine.yaml -> mine.yaml"),
    ("defaults: [other]", "its defaults form a cycle: mine.yaml -> other.yaml -> mine.yaml"),
]


@pytest.mark.parametrize(("text", "line"), RECIPES)
def test_a_broken_experiment_is_named(conf, tmp_path, text, line):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    file.write_text(f"{text}\n", errors="surrogateescape")
    (tmp_path / "experiment/other.yaml").write_text("defaults: [mine]")
    assert refused(conf, "experiment=mine", "--config-dir", str(tmp_path)) == f"{file}: {line}"


def test_choices_are_read_from_yaml_of_any_style(tmp_path):
    """Words that YAML 1.1 reads as booleans stay text, and a checklist has the phases of its base."""
    for name, text in {
        "config.yaml": "defaults: [{checklist: own}, _self_, {wandb: off}, {without: null}, {override hydra/job: x}]",
        "checklist/base.yaml": "# @package _global_\nchecklist:\n  one:\n    epochs: 1\n    do: fit\n",
        "checklist/own.yaml": "defaults: [base, _self_]\none: {epochs: 2}\ntwo: {epochs: 1, do: fit}\n",
        "wandb/off.yaml": "",
        "without/a.yaml": "",
        "experiment/mine.yaml": """# @package _global_
            defaults: [{/wandb: 'off'}, {override /backbone: null}, _self_]
            hydra: {sweeper: {params: {seed: '0,1', resize: no}}, mode: "MULTIRUN"}
            """,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert conf_files.default_choices(tmp_path) == {"checklist": "own", "wandb": "off", "without": "null"}
    assert conf_files.phase_names([], tmp_path) == ["one", "two"]
    recipes = conf_files.experiments([("", "experiment", "mine")], tmp_path)
    chosen = {"wandb": ["off"], "backbone": ["null"], "seed": ["0", "1"], "resize": ["no"]}
    assert conf_files.chosen_values([], recipes) == chosen
    assert conf_files.part(recipes[0], "hydra", "mode", kind=str) == "MULTIRUN"


def test_implied_groups_are_printed(conf):
    assert normalise(["data.root=/p"], conf).notes == (f"data.root implies {OWN}",)
    assert normalise(["data=folder"], conf).notes == (f"data=folder implies {OWN.removeprefix('data=folder ')}",)
    assert normalise(["seed=1"], conf).notes == ()


@pytest.mark.parametrize(
    ("typed", "argv"),
    [
        ("seeds=3", ["-m", "seed=range(0,3)"]),
        ("seeds=3 seed=7 lr=0.1", ["-m", "lr=0.1", "seed=range(7,10)"]),
        ("-m lr=0.1,0.2 seeds=2", ["-m", "lr=0.1,0.2", "seed=range(0,2)"]),
        ("seeds=1 seed=4", ["seed=4"]),
    ],
)
def test_seeds_is_a_sweep_over_seeds(conf, typed, argv):
    found = normalise(typed.split(), conf)
    assert found.argv == argv and found.multirun == ("-m" in argv)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("seeds=0", "seeds=0: must be a whole number from 1 to 999; for given seeds, type -m seed=3,7"),
        ("seeds=3,5", "seeds=3,5: must be a whole number"),
        ("seeds=3 seed=0,1", "seeds=3 seed=0,1: give one of the two"),
        ("seeds=3 hydra.mode=RUN", "seeds=3 is a sweep and contradicts hydra.mode=RUN"),
        ("seeds=3 hydra/sweeper=optuna", "seeds=3: a search would vary the seed too"),
        ("seeds=", "seeds=: must be a whole number"),
    ],
)
def test_seeds_that_contradict_are_refused(conf, typed, line):
    with pytest.raises(UserError, match="^" + re.escape(line)) as refused:
        normalise(typed.split(), conf)
    assert refused.value.code == 2


def test_seeds_of_a_search_that_an_experiment_chooses_are_refused(conf, tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    with pytest.raises(UserError, match="seeds=3: a search would vary the seed too"):
        normalise([f"--config-dir={tmp_path}", "experiment=mine", "seeds=3"], conf)


def test_sweeps_are_recognised(conf):
    assert normalise(["seed=0,1", "-m"], conf).multirun and normalise(["--multirun"], conf).multirun
    assert not normalise(["experiment=schedulers", "hydra.mode=RUN"], conf).multirun
    assert normalise(["experiment=schedulers"], conf).multirun and normalise(["hydra.mode=MULTIRUN"], conf).multirun
    assert not normalise(["experiment=lesson1"], conf).multirun


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["~/no photos"], "~/no photos: not a setting, and no file or folder of this name exists"),
        (["~"], "~: not a setting; for a folder of images type 'data.root=~'"),
        (["."], ".: not a setting; for a folder of images type data.root=."),
        (["lesson1"], "lesson1: did you mean experiment=lesson1?"),
        (["none"], "none: did you mean augment=none or resize=none?"),
        (["foo"], "foo: not a setting; settings are written key=value (--help lists them)"),
        (["=3"], "=3: a setting needs a name before the ="),
        (
            ["data.root=/My", "Birds"],
            "Birds: is it part of data.root? a value with spaces needs quotes: 'data.root=/My Birds'",
        ),
        (["--lr=0.1"], "--lr=0.1: no such flag; settings are written without dashes: lr=0.1"),
        (["--batch-size", "3"], "--batch-size: no such flag; settings are written without dashes: batch_size=3"),
        (["--config-dir"], "--config-dir needs a value; see --help"),
        (["data.root="], "data.root is empty; give data.root=FOLDER"),
    ],
)
def test_arguments_that_are_not_settings(conf, args, line):
    assert refused(conf, *args) == line


# explain --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arg", "line"),
    [
        # Unknown choices.
        ("scheduler=sgd", "scheduler=sgd: no such choice; did you mean sgdr?"),
        ("loss=focal", "loss=focal: no such choice; known: cross_entropy"),
        ("experiment=nope", f"experiment=nope: no such choice; known: {EXPERIMENTS}"),
        ("wandb=false", "wandb=false: no such choice; did you mean offline?"),
        ("head=null", "head=null: no such choice; known: fastai, linear"),
        ("scheduler=[a,b]", "scheduler=[a,b]: only one choice per run; for a sweep, add -m and remove the brackets"),
        ("hydra/launcher=joblb", "hydra/launcher=joblb: no such choice; did you mean joblib?"),
        # Unknown keys.
        ("lrr=0.1", "lrr=0.1: no such key; did you mean lr=0.1?"),
        ("+lrr=0.1", "lrr=0.1: no such key; did you mean lr=0.1?"),
        ("model=resnet50", "model=resnet50: no such key; did you mean backbone=resnet50?"),
        ("learning_rate=0.1", "learning_rate=0.1: no such key; did you mean lr=0.1?"),
        ("cycles=3", "cycles=3: no such key; did you mean scheduler.cycles=3?"),
        ("schedular=sgdr", "schedular=sgdr: no such key; did you mean scheduler=sgdr?"),
        ("find={stps: 3}", "find.stps: no such key; did you mean find.steps or find.trial_steps or find.trials?"),
        ("hydra.launcher.nope=x", "hydra.launcher.nope=x: no such setting of Hydra; --cfg hydra lists them"),
        ("xyzzy=1", "xyzzy=1: no such key; --help lists them"),
        # Unknown phases.
        ("~checklist.fnd_full", "~checklist.fnd_full: no such phase; did you mean find_full or full?"),
        ("~augment.transforms", "~augment.transforms: only phases can be removed"),
        ("augment.transforms=[a]", "augment.transforms=[a]: must be a dictionary"),
        (
            "checklist..lr=1",
            "checklist..lr=1: checklist..lr is not the name of a setting; settings are written key=value"
            " (--help lists them)",
        ),
        ("lr=a,b", "lr=a,b is a sweep, and lr takes no such values"),
        ("~find_full", "~find_full: only phases can be removed, such as '~checklist.find_full'"),
        ("~lr", "~lr: only phases can be removed; lr=null unsets it"),
        # Values of the wrong type.
        ("epochs=1.5", "epochs=1.5: must be a whole number or null"),
        ("log_every=abc", "log_every=abc: must be a whole number"),
        ("seed=null", "seed=null: must be a whole number"),
        ("smoke=maybe", "smoke=maybe: must be true or false"),
        ("data.valid=[1]", "data.valid=[1]: must be a number"),
        ("backbone.name=null", "backbone.name=null: must be text"),
        ("tags=a", "tags=a: must be a list such as 'tags=[a]'"),
        ("augment.scale=[a]", "augment.scale=[a]: each item must be a number"),
        ("find=3", "find=3: find is a group of settings, such as find.rule, find.min_lr, find.max_lr"),
        # The grammar.
        ("lr=[0.1,0.2", "lr=[0.1,0.2: a bracket or quote is not closed"),
        ("lr='0.1", "lr='0.1: a bracket or quote is not closed"),
        ("lr=[0.1]]", "lr=[0.1]]: a closing bracket has no opening bracket"),
        ("device=a=b", "device=a=b: a value with such characters needs quotes inside quotes: \"device='a=b'\""),
        ("seed=chice(1,2)", "seed=chice(1,2): no such function chice; did you mean choice?"),
        # A sweep without -m.
        ("seed=0,1", "seed=0,1 is a sweep: add -m"),
        ("seed=range(3)", "seed=range(3) is a sweep: add -m"),
        ("lr=1e-4,1e-3", "lr=1e-4,1e-3 is a sweep: add -m, or give a list: 'lr=[1e-4,1e-3]'"),
        # Missing values.
        ("data=folder", "data.root is not set; give data.root=FOLDER"),
        ("~head", "head is required; give head=fastai|linear"),
        ("seed=${nope}", "seed=${nope}: Interpolation key 'nope' not found"),
        ("lr=${oc.env:NOPE}", "lr=${oc.env:NOPE}: \"Environment variable 'NOPE' not found\""),
    ],
)
def test_explain(conf, arg, line):
    assert refused(conf, arg) == line


ADVISED = [  # a typed argument, and the words that the error advises
    ("tags=[a b,lr=0.1]", ["tags=['a b','lr=0.1']"]),
    ("tags=[a;b,'c d']", ["tags=['a;b','c d']"]),
    ("tags=a b", ["tags=[a b]"]),
    ("tags=a,b", ["tags=[a,b]"]),
    ("tags=a=b", []),
    ("data.name=x (y)", ["data.name='x (y)'"]),
    ("checklist.full.note=a=b", ["checklist.full.note='a=b'"]),
    ("checklist.ful.lr=0.01", ["checklist.ful={do: fit, epochs: 2}"]),
    ("checklist={polish: 1}", ["checklist.polish={do: fit, epochs: 2}"]),
    ("learning_rate=0.1", ["lr=0.1"]),
    ("learning_rate=fast", []),
    ("model=resnet18", ["backbone=resnet18"]),
    ("model=resnet19", []),
    ("gpus=2", []),
    ("pretrained=true", []),
    ("amp=true", []),
    ("lr_factor=1;2", []),
    ("optimizer.betas=0.9", []),
    ("optimizer.betas=0.9,0.99", ["optimizer.betas=[0.9,0.99]"]),
    ("rates.ratios=1/3,1", ["rates.ratios=[1/3,1]"]),
    ("lr=a,b", []),
    ("scheduler=sgdr,nope", []),
    ("~data.fold", ["data.fold=null"]),
    ("~seed", []),
    ("~threads", []),
    ("~data.root", ["data.root=null"]),
]
BEFORE = "did you mean|quotes inside quotes:|give a list:|such as|a new one is|removed;"
ADVICE = rf"(?:{BEFORE}) (\S+=.*?)(?= unsets it|\?$|$)"


@pytest.mark.parametrize(
    ("arg", "line"),
    [
        ("lr_factor=0.5,1,two", "lr_factor=two: must be a number"),
        ("epochs=choice(1,1.5)", "epochs=1.5: must be a whole number or null"),
        ("smoke=maybe,true", "smoke=maybe: must be true or false"),
    ],
)
def test_the_wrong_value_of_a_sweep_is_named(conf, arg, line):
    argv = normalise(["-m", arg], conf).argv
    jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(argv[1:]), max_batch_size=None)[0]
    with pytest.raises(Exception) as raised:
        for job in jobs:
            compose("config", overrides=list(job))
    assert explain(raised.value, argv, conf).line == line


@pytest.mark.parametrize(("arg", "words"), ADVISED)
def test_advised_words_are_accepted(conf, arg, words):
    line = refused(conf, arg)
    assert [word for advice in re.findall(ADVICE, line) for word in shlex.split(advice)] == words
    assert all(map(accepted, words))


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("scheduler.cyles=3", ["did you mean scheduler.cycles"]),
        ("checklist.ful.lr=0.01", ["no such phase; did you mean full", "one is 'checklist.ful={do: fit, epochs: 2}'"]),
        ("checklist=nope", ["eight, fastai07, fine_tune, from_scratch, head_only"]),
        ("scheduler@rates=sgdr", ["no such key"]),
        ("notes_of_mine=" + "x" * 500, ["xxx...xxx", "notes"]),
    ],
)
def test_explain_in_parts(conf, arg, words):
    line = refused(conf, arg)
    assert all(word in line for word in words) and len(line) < 200 and "+" not in line and "\n" not in line


def test_a_yaml_with_an_unknown_key_is_named(conf, tmp_path):
    mine = tmp_path / "conf"
    shutil.copytree(conf, mine)
    (mine / "loss" / "focal.yaml").write_text("smoothing: 0.0\nbalance: none\nsmothing: 2\n")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(mine)), pytest.raises(Exception) as raised:
            compose("config", overrides=["loss=focal"])
    finally:
        GlobalHydra.instance().clear()
        initialize_config_dir(version_base="1.3", config_dir=str(conf)).__enter__()
    line = explain(raised.value, ["loss=focal"], mine).line
    assert line.startswith("conf/loss/focal.yaml: loss.smothing: no such key; did you mean loss.smoothing")


def test_other_errors_keep_their_text(conf):
    assert explain(UserError(3, "x"), [], conf).code == 3
    assert explain(ValueError("one\ntwo"), [], conf).line == "one two"
    assert explain(AssertionError(), [], conf).line == "AssertionError"
    text = "Cannot find primary config 'x'.\n\nConfig search path:\n\tprovider=main"
    assert explain(OSError(text), [], conf).line == "Cannot find primary config 'x'."


# What Hydra alone would refuse or misread ----------------------------------------------------------------------------


def test_a_folder_as_root_implies_the_groups(conf):
    settings = typed(conf, "data.root=/photos")
    assert (settings.data.kind, settings.backbone.name, settings.augment.crop) == ("folder", "resnet50", "random")


def test_any_timm_name_is_a_backbone(conf):
    assert typed(conf, "backbone=convnextv2_tiny").backbone.name == "convnextv2_tiny"
    assert typed(conf, "backbone=resnet50.a1_in1k").backbone.name == "resnet50.a1_in1k"


def test_an_option_of_one_choice_composes_with_any(conf):
    for shape in ("sgdr", "one_cycle", "constant"):
        config = compose("config", overrides=normalise([f"scheduler={shape}", "scheduler.pct=0.3"], conf).argv)
        assert (config.scheduler.shape, config.scheduler.pct) == (shape, 0.3)


def test_fractions_lists_and_phases(conf):
    settings = typed(conf, "rates.ratios=[1/9, 1/3, 1]", "lr=[1e-4, 1e-3, 1e-2]", "checklist.full.lr=0.01")
    assert settings.rates.ratios == ["1/9", "1/3", 1] and settings.lr == [1e-4, 1e-3, 1e-2]
    assert settings.checklist["full"] == {"do": "fit", "train": "all", "until": "overfit", "lr": 0.01}
    settings = typed(conf, "~checklist.find_full", "+checklist.extra={do: fit, epochs: 3}")
    assert "find_full" not in settings.checklist and settings.checklist["extra"] == {"do": "fit", "epochs": 3}
    assert typed(conf, "+experiment=lesson1", "data.root=/p").lr == [1e-4, 1e-3, 1e-2]


# no_effect, short_name, folder_name, help_text ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "idle"),
    [
        (
            "scheduler.cycles=4 scheduler.warmup=0.1 scheduler.pct=0.3 scheduler.gamma=null optimizer.momentum=0"
            " rates.decay=0.5 data=digits data.root=/p data.detail=2 augment.scale=[0.5,1] lr_factor=2",
            {
                "scheduler.pct=0.3": "scheduler=sgdr",
                "optimizer.momentum=0": "optimizer=adamw",
                "rates.decay=0.5": "rates.split=equal",
                "data.root=/p": "data=digits",
                "data.detail=2": "data=digits",
                "augment.scale=[0.5,1]": "augment.crop=whole",
            },
        ),
        (
            "scheduler=one_cycle scheduler.pct=0.3 scheduler.warmup=0.1 optimizer=sgd optimizer.betas=[0,1]"
            " rates=layer_decay rates.decay=0.5 rates.ratios=[1] augment=strong augment.scale=[0,1] lr=0.1 lr_factor=2",
            {
                "scheduler.warmup=0.1": "scheduler=one_cycle",
                "optimizer.betas=[0,1]": "optimizer=sgd",
                "rates.ratios=[1]": "rates.split=layer_decay",
                "lr_factor=2": "lr=0.1",
            },
        ),
        (
            "lr=[0.1,1] rates.ratios=[1] rates.split=equal data=shapes data.detail=2",
            {"rates.ratios=[1]": "lr=[0.1,1]"},
        ),
        (
            "data.group=x data.max_pixels=1e6 data.name=pets data.images=/p data.fold=1 data.valid=0.1 data.limit=500",
            {
                "data.group=x": "data=digits",
                "data.max_pixels=1e6": "data=digits",
                "data.name=pets": "data=digits",
                "data.images=/p": "data=digits",
                "data.valid=0.1": "data.fold=1",
            },
        ),
        ("data=csv data.root=/l.csv data.name=pets data.images=/p data.leak=error", {"data.name=pets": "data=csv"}),
        (
            "find.steps=50 find.trial_steps=9 evaluate.ensemble=1",
            {"find.steps=50": "find.rule=trials", "evaluate.ensemble=1": "an ensemble takes at least two cycle ends"},
        ),
        ("find.rule=edge find.steps=50 find.trials=9", {"find.trials=9": "find.rule=edge"}),
        ("find.max_lr=1 find.diverge=9", {"find.diverge=9": "find.rule=trials"}),
        (
            "lr=0.002 find.max_lr=1 checklist=fine_tune scheduler.max_cycles=7",
            {
                "find.max_lr=1": "no phase finds a rate",
                "scheduler.max_cycles=7": "no phase trains until over-fitting",
            },
        ),
        (
            "checklist=head_only resize=double augment=strong augment.mixup=0.4 bn=eval rates.split=head seed=1"
            " loss.smoothing=0.2 loss.balance=weights",
            {
                "resize=double": "no phase trains the full network",
                "augment=strong": "every phase trains on stored activations",
                "augment.mixup=0.4": "every phase trains on stored activations",
                "bn=eval": "no phase trains the full network",
                "rates.split=head": "no phase trains the full network",
                "loss.smoothing=0.2": "no phase trains the full network",
            },
        ),
        (
            "~checklist.full ~checklist.find_full scheduler=one_cycle scheduler.pct=0.3",
            {
                "scheduler=one_cycle": "every phase states its own duration",
                "scheduler.pct=0.3": "every phase states its own duration",
            },
        ),
        (
            "epochs=7 scheduler=cosine scheduler.cycle_mult=3",
            {"scheduler.cycle_mult=3": "epochs=7 and scheduler=cosine"},
        ),
        ("checklist=head_only evaluate.tta=2 augment=strong", {}),  # augment draws the views of tta
        (
            "epochs=7 scheduler.cycles=5 scheduler=one_cycle scheduler.max_cycles=6 optimizer.momentum=0.5"
            " optimizer=sgd checklist=from_scratch evaluate.ensemble=3 lr=0.1",
            {
                "scheduler.cycles=5": "epochs=7",
                "scheduler.max_cycles=6": "scheduler=one_cycle",
                "optimizer.momentum=0.5": "scheduler=one_cycle, which sets it",
                "evaluate.ensemble=3": "an ensemble takes two cycle ends, and every phase has one",
            },
        ),
    ],
)
def test_no_effect(conf, args, idle):
    args = args.split()
    lines = [f"{setting} has no effect{' with ' if '=' in why else ': '}{why}" for setting, why in idle.items()]
    settings = typed(conf, *args)
    assert no_effect(["-m", *args], settings, make_plan(settings, Facts()).phases) == lines


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("", ""),
        ("scheduler=sgdr rates=thirds lr_factor=2 seed=1", "sgdr · thirds · lr×2 · s1"),
        ("-m scheduler=sgdr,one_cycle seed=0,1", "sgdr,one_cycle · s0,1"),
        ("--cfg job scheduler.cycles=4 size=64", "cycles 4 · size 64"),
        ("lr=[1e-4,1e-3]", "lr 1e-4,1e-3"),
        ("data.root='/p/my=birds' data=folder backbone=resnet50", "my=birds · resnet50"),
        ("data=shapes data.root=/p/birds", "shapes"),
        ("data=torchvision data.root=/p/birds", "birds"),
        ("~checklist.find_full ++checklist.full.lr=0.1 smoke=true", "no find_full · full lr 0.1 · smoke"),
        ("experiment=lesson1 name=x notes=y tags=[a] wandb=offline wandb.dir=/w store.dir=/s hydra.x=1", "lesson1"),
    ],
)
def test_short_names(args, text):
    assert short_name(args.split()) == text


def test_folder_names():
    assert folder_name([], WHEN, False) == "2027-03-01_09-05-07_default"
    assert folder_name(["scheduler=sgdr", "lr_factor=2"], WHEN, False) == "2027-03-01_09-05-07_sgdr-lrx2"
    paths = ["init=/r/2026-11-30_04-28-14_lesson1", "threads=1", "data.workers=2", "device=cpu"]
    assert folder_name(paths, WHEN, False) == "2027-03-01_09-05-07_lesson1", "one date, and no settings of the machine"
    assert "_device-cpu-cuda_" in folder_name(["-m", "device=cpu,cuda"], WHEN, True)
    assert folder_name(["seed=1", "name='Ann\\'s first: run/2'"], WHEN, False).endswith("_09-05-07_Ann-s-first-run-2")
    for name in ("..", "/", "x" * 500, "~", "a\nb", " ", "é/ü"):
        made = folder_name([f"name={name}"], WHEN, True)
        assert 29 < len(made) <= 89 and not set(made) & set("/\n ~") and made.count("2027") == 1


def test_a_sweep_is_identified_by_its_overrides():
    def name(*argv):
        return folder_name(["-m", *argv], WHEN, True)[-8:]

    one = name("seed=0,1", "scheduler=sgdr,cosine")
    assert one == name("scheduler=sgdr,cosine", "seed=0,1", "name=x", "notes=y", "tags=[z]", "wandb=offline")
    assert one == name("seed=0,1", "scheduler=sgdr,cosine", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert one != name("seed=0,2", "scheduler=sgdr,cosine") and one != name("seed=0,1")


def test_help(conf):
    start = perf_counter()
    text = help_text(conf)
    assert perf_counter() - start < 0.5
    assert max(map(len, text.splitlines())) <= page.WIDTH
    for group in conf_files.group_names(conf):
        assert all(f" {name} " in text for name in conf_files.choices_of(group, conf))
    for quoted in (
        "~checklist.head_augmented",
        "data.root=~/photos",
        "rates.ratios=[0.01,0.1,1]",
        "lr=[1e-5,1e-4,1e-3]",
    ):
        assert f"'{quoted}'" in text
    assert "* sgdr" in text and "* in_turn" in text and "find.rule=trials" in text
    assert "???" not in text and re.search(r"\n  data\.root +required with data=folder and data=csv", text)
    assert " _budget" not in text and "@package" not in text and "hydra:" not in text
    for key in conf_files.key_types():
        if "." not in key and key not in conf_files.group_names(conf):
            assert f"\n  {key}" in text, key
        elif key.split(".")[0] in conf_files.group_names(conf) and ".facts" not in key and key not in page.HIDDEN:
            assert "." not in key or re.search(rf"\n  {key}[= ]", text), key
    assert all(re.search(rf"checklist\.PHASE\.{key} |[ ,]{key}\b", text) for key in PHASE_KEYS)


def test_help_lists_the_choices_of_config_dir(conf, tmp_path):
    for name, text in {"experiment/mine": "# my own recipe\n", "loss/focal": "", "backbone/bad": "caf\udce9"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(text, errors="surrogateescape")
    for flag in ([f"--config-dir={tmp_path}"], ["--nope", "-cd", str(tmp_path)]):
        text = help_text(conf, *unchecked_config_dirs(["--help", *flag]))
        assert re.search(r"\n    mine +my own recipe\n", text) and "\n    focal\n" in text and "\n    bad\n" in text
    assert unchecked_config_dirs(["--help", "seed=1"]) == []
    with pytest.raises(UserError, match="--config-dir /nowhere: no such folder"):
        unchecked_config_dirs(["-h", "-cd", "/nowhere"])


def test_comments_of_all_options(conf):
    rows = page.setting_rows(page.own_settings(conf))
    groups = [group for group in conf_files.group_names(conf) if group not in page.WITHOUT_OPTIONS]
    rows += [row for group in groups for row in page.option_rows(group, conf)]
    assert not [setting for setting, comment in rows if not comment.rpartition(": ")[2]]


def test_each_yaml_has_a_description_of_one_line(conf):
    for group in conf_files.group_names(conf):
        for name in conf_files.choices_of(group, conf):
            said = page.described(file := conf / group / f"{name}.yaml")
            assert said and said.count("(") == said.count(")"), file
            after = [line for line in page.read(file).partition(said)[2].splitlines()[1:2] if line.startswith("# ")]
            assert not re.match("# [a-z0-9]", "".join(after)), f"{file}: the description continues in a second line"


@pytest.mark.parametrize(
    ("typed", "valid_from", "said"),
    [
        (["data.valid=0.3"], "val/", ["warning: data.valid=0.3 has no effect: the validation images come from val/"]),
        (["data.valid=0.3"], "", []),
        (["seed=1"], "val/", []),
    ],
)
def test_a_validation_share_beside_validation_images_is_warned_about(typed, valid_from, said):
    assert unused_valid_share(typed, valid_from) == said


GLOBS = [  # a typed sweep, and what Hydra gets
    ("augment=glob(s*)", "augment=side_on,standard,strong"),
    ("augment=glob('s*')", "augment=side_on,standard,strong"),
    ("scheduler=glob(*cycle)", "scheduler=one_cycle"),
    ("augment=glob(*,exclude=none)", "augment=light,side_on,standard,strong,top_down"),
    ("augment=glob(*, exclude=[none, 's*'])", "augment=light,top_down"),
    ("augment=glob([l*,'n*'])", "augment=light,none"),
    ("augment=glob(include=[l*], exclude=x*)", "augment=light"),
    ("augment=choice(light,none)", "augment=choice(light,none)"),
    ("augment=shuffle(light,none)", "augment=shuffle(light,none)"),
    ("augment.crop=glob(*)", "augment.crop=glob(*)"),
]


@pytest.mark.parametrize(("typed", "given"), GLOBS)
def test_a_glob_over_a_group_matches_the_choices_in_help(typed, given):
    assert given in normalise(["-m", typed], REPOSITORY / "conf").argv


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("scheduler=glob(zzz*)", r"matches no choice; known: constant, cosine"),
        ("augment=glob(l*,exclude=l*)", "matches no choice; known: light"),
        ("augment=[light,strong]", "only one choice per run; for a sweep, add -m and remove the brackets"),
        ("augment=[light,strong],none", "only one choice per run"),
        ("augment=choice([light,strong],none)", "only one choice per run"),
        ("augment=_shared", r"^augment=_shared: no such choice; "),
        ("augment=light,_shared", r"^augment=_shared: no such choice; "),
        ("augment=choice(light,_shared)", r"^augment=_shared: no such choice; "),
    ],
)
def test_choices_that_help_does_not_list_are_refused(typed, line):
    with pytest.raises(UserError, match=line) as caught:
        normalise(["-m", typed], REPOSITORY / "conf")
    assert caught.value.code == 2


IDLE = [  # settings of Hydra without effect, and the error
    ("hydra.rundir=x", "hydra.rundir=x: has no effect; did you mean hydra.run.dir?"),
    ("hydra.verbose=true", "hydra.verbose=true: has no effect; verbose=true prints a line per epoch"),
    ("hydra.job.name=x", "hydra.job.name=x: has no effect; name=TEXT names a run or a sweep"),
    ("hydra.searchpath=[x]", "hydra.searchpath=[x]: has no effect; to add yaml files: --config-dir FOLDER"),
    ("hydra.sweep.dir=x", "hydra.sweep.dir=x: has no effect on a single run; set hydra.run.dir instead"),
    ("-m hydra.run.dir=x", "hydra.run.dir=x: has no effect on a sweep; set hydra.sweep.dir instead"),
    ("-m ~hydra/launcher", "~hydra/launcher: cannot be set here; a sweep is -m KEY=VALUE,VALUE"),
    (
        "hydra=null",
        "hydra=null: has no effect; settings of Hydra with an effect: hydra/launcher, hydra/sweeper, hydra.launcher, "
        "hydra.sweeper, hydra.sweep.dir, hydra.run.dir, hydra.mode, hydra.job.env_set",
    ),
    ("-m hydra.sweeper.params.a=1", "hydra.sweeper.params.a=1: cannot be set here; a sweep is -m KEY=VALUE,VALUE"),
    ("-m hydra.mode=RUN", "-m contradicts hydra.mode=RUN; remove one of the two"),
]
NEVER = ["hydra.job.chdir=true", "hydra.output_subdir=null", "hydra.sweep.subdir=x", "hydra/job_logging=default"]
NEVER += ["+hydra.callbacks.x.y=1", "hydra/output=default", "hydra.job_logging.root.level=DEBUG", "hydra.help.header=x"]


@pytest.mark.parametrize(("args", "line"), IDLE)
def test_a_setting_of_hydra_without_effect_is_refused(conf, args, line):
    assert refused(conf, *args.split()) == line


@pytest.mark.parametrize("setting", NEVER)
def test_a_setting_without_effect_is_refused_in_an_experiment_too(conf, tmp_path, setting):
    assert ": has no effect; " in refused(conf, setting)
    key, value = setting.removeprefix("+").split("=")
    inner = f"hydra: {{{': {'.join(key.split('.')[1:])}: {value}{'}' * key.count('.')}"
    text = f"defaults: [override /{key}: {value}]" if "/" in key else inner
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert refused(conf, "experiment=mine", f"-cd={tmp_path}").startswith(f"{key} in an experiment: has no effect")


def test_an_experiment_chooses_launcher_and_sweeper(conf, tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "defaults: [override /hydra/launcher: joblib, override /hydra/sweeper: halving]\nhydra: {mode: MULTIRUN}\n"
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}")
    flag = f"--config-dir={tmp_path}"
    got = normalise(["experiment=mine", flag, "hydra/launcher=slurm"], conf)
    assert got.argv == [flag, "experiment=mine", "hydra/launcher=slurm", "hydra/sweeper=halving"]
    assert (got.multirun, got.notes) == (True, ())
    assert "hydra/launcher=joblib" in normalise(["experiment=mine", flag, "hydra.mode=RUN"], conf).argv
    idle = "warning: hydra/launcher=joblib has no effect without -m"
    assert normalise(["hydra/launcher=joblib"], conf).notes == (idle,)


FLAGS = [  # wrong flags, and the error
    ("-m=1", "-m=1: -m takes no value"),
    ("--cfg nope", "--cfg nope: must be one of job, hydra, all"),
    ("--info=nope", "--info nope: must be one of all, config, defaults, defaults-tree, plugins, searchpath"),
    ("-p launcher --cfg hydra", "-p launcher: no such part of the settings; did you mean loss.balance?"),
    ("-cd /nowhere", "--config-dir /nowhere: no such folder; give one with the layout of conf/"),
    ("-cd / -cd /tmp", "--config-dir: give one folder, not / and /tmp"),
    ("-sc nope", "-sc takes one word: install=SHELL or uninstall=SHELL, with bash, zsh or fish as SHELL"),
    ("-sc query=bash", "-sc takes one word: install=SHELL or uninstall=SHELL, with bash, zsh or fish as SHELL"),
    ("--nope=3", "--nope=3: no such flag; --help lists flags and settings"),
    ("--seed seed=1", "--seed: no such flag; settings are written without dashes: seed=VALUE"),
]


@pytest.mark.parametrize(("args", "line"), FLAGS)
def test_wrong_flags_are_refused(conf, args, line):
    assert refused(conf, *args.split()) == line


@pytest.mark.parametrize("flag", ["-cp", "--config-path", "-cn", "--config-name", "--experimental-rerun"])
def test_flags_that_replace_config_yaml_are_refused(conf, tmp_path, flag):
    (tmp_path / "status.json").touch()
    line = refused(conf, flag, f"{tmp_path}/.hydra")
    assert "settings always start from conf/config.yaml" in line and f"scripts/rerun.py {tmp_path};" in line
    assert "scripts/rerun.py RUN;" in refused(conf, f"{flag}=config")


def test_phases_of_an_experiment_in_config_dir_are_known(conf, tmp_path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nchecklist: {polish: {do: fit, epochs: 1}}\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    argv = normalise(["experiment=mine", "checklist.polish.lr=1", f"-cd={tmp_path}"], conf).argv
    assert argv[-1] == "++checklist.polish.lr=1"


FORMS = [  # experiments that Hydra cannot compose, and the end of the error
    ("hydra: null", "hydra in an experiment is null; it must contain settings of Hydra"),
    ("null: 2", "the name of a setting is not text"),
    ("checklist: [find]", "a setting: a list where a dictionary is needed, or the other way round"),
    ("scheduler: [a]", "not a list; choose by `override /scheduler: NAME` under defaults"),
    ("data: folder", "not a str; choose by `override /data: NAME` under defaults"),
    ("defaults: [3]", "each entry of `defaults` must be a name or `group: name`"),
]


@pytest.mark.parametrize(("text", "line"), FORMS)
def test_an_experiment_of_the_wrong_form_is_refused(tmp_path, text, line):
    GlobalHydra.instance().clear()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(UserError) as raised:
        compose_settings(["experiment=mine", f"--config-dir={tmp_path}"])
    assert raised.value.code == 2 and raised.value.line.endswith(line)


def test_compose_settings_with_config_dir(tmp_path):
    """Compose without a run, as scripts/show_batch.py does."""
    GlobalHydra.instance().clear()
    folder = tmp_path / "it's, a=b"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/mine.yaml").write_text("# @package _global_\nlr_factor: 2\n")
    assert compose_settings(["experiment=mine", f"--config-dir={folder}"]).lr_factor == 2
    with pytest.raises(UserError, match="have no schema"):
        to_dataclasses(OmegaConf.create({"augment": {"transforms": {}}}))


@pytest.mark.parametrize(("sweep", "key"), [([], "hydra.run.dir"), (["-m"], "hydra.sweep.dir")])
def test_home_in_the_folder_of_a_run_is_expanded(sweep, key):
    argv = normalise([*sweep, f"{key}=~/my runs"], REPOSITORY / "conf").argv
    assert argv == [*sweep, f"{key}='{os.path.expanduser('~/my runs')}'"]


def test_a_glob_over_experiments_has_their_backbones():
    assert "resnext50_32x4d.tv_in1k" in normalise(["-m", "experiment=glob(lesson1*)"], REPOSITORY / "conf").backbones
