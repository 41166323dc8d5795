"""Every setting with its type. Standard library only.

The dataclasses are the plain objects that everything inside works with, and what Hydra composes into follows from them
(`thaw.config.composed`). They hold no defaults: those live in conf/, one place each. A field that is None is not used
by the choice that was made, where all choices of a group share one dataclass.
"""

from dataclasses import dataclass
from typing import Any, Optional

from thaw.config.optimizers import Optimizer
from thaw.config.options import number
from thaw.config.schedule import Schedule

HEAD_OPTIONS = {"linear": ("kind",), "fastai": ("kind", "hidden", "drop")}

# ruff: noqa: UP045  (OmegaConf 2.3 reads Optional[X], not X | None, in a schema)


@dataclass
class Budget:
    """How long a phase that takes the scheduler's budget is; typed as scheduler.cycles and so on, and as epochs."""

    cycles: int = number(1, 64)
    cycle_len: int = number(1, 10_000)  # epochs of the first cycle
    cycle_mult: int = number(1, 16)  # each cycle is that many times as long as the one before
    max_cycles: Optional[int] = number(1, 64)  # how far `until: overfit` may go on; null: cycles + 2
    epochs: Optional[int] = number(1, 10_000)  # so many in the place of cycles


@dataclass
class Rates:
    split: str
    ratios: Optional[list[Any]] = None  # numbers or fractions such as 1/9; their number is the number of groups
    decay: Optional[float] = None  # layer_decay: factor from one layer to the one before


@dataclass
class Resize:
    sizes: list[Any]


@dataclass
class BackboneFacts:
    native_size: Optional[int] = None
    multiple: Optional[int] = None
    layers: Optional[int] = None  # layer ids of timm's group_matcher


@dataclass
class Backbone:
    name: str  # a timm model
    weights: str  # pretrained | packaged | none | a safetensors file
    drop: float
    drop_path: float
    facts: BackboneFacts


@dataclass
class Head:
    kind: str
    hidden: Optional[int] = None  # fastai: outputs of its first linear layer
    drop: Optional[list[float]] = None  # fastai: dropout before each of its two linear layers


@dataclass
class DataFacts:
    images: Optional[int] = None  # to train and validate on, before the share held out is taken
    test: Optional[int] = None
    classes: Optional[int] = None


@dataclass
class Data:
    kind: str
    root: Optional[str]
    valid: float  # share of every class, where nothing says which images validate
    fold: Optional[int]  # cross-validation: that fifth instead
    group: Optional[str]  # a regular expression on the path, or a column of a table: what stays on one side
    limit: Optional[int]
    classes: Optional[str]  # a table from,to
    labels: Optional[str]  # a table path,label
    workers: Any
    pixels_budget: str  # bytes of decoded images that are kept
    crop_pct: float  # shorter side of the stored images = size / crop_pct
    max_bad: float  # share of unreadable files that is tolerated
    max_pixels: float
    min_side: int
    allow_missing: bool
    leak: str
    facts: DataFacts
    detail: Optional[float] = None  # shapes: the larger, the finer what tells the classes apart
    test: Optional[int] = None  # shapes: so many more are drawn, to test
    name: Optional[str] = None  # torchvision: which set
    images: Optional[str] = None  # csv: the folder that its paths are relative to; null: its own
    path_column: Optional[str] = None  # csv; null: found by its name
    label_column: Optional[str] = None
    split_column: Optional[str] = None  # csv; null: found by its name, none: there is none


@dataclass
class Augment:
    crop: str  # whole | random | zoom
    scale: Optional[
        list[float]
    ]  # random: share of the area, null: 0.35 to 1; zoom: shorter side in sizes, null: 1 to 1.1
    transforms: dict[str, Any]  # albumentations transforms by name, in order
    mixup: float  # alpha; 0: off
    cutmix: float  # alpha; both: one or the other in each step


@dataclass
class Loss:
    smoothing: float
    balance: str


@dataclass
class Evaluate:
    tta: int  # augmented views besides the plain one; 0: off
    ensemble: int  # cycle ends taken together; 0: off


@dataclass
class Find:
    rule: str
    min_lr: float
    max_lr: float
    trial_steps: int
    trial_orders: int
    stored_steps: int
    stored_orders: int
    steps: int
    smooth: float
    diverge: float


@dataclass
class StoreSettings:
    dir: str
    max_size: Optional[str]
    code: str
    wait_s: float
    snapshot_s: float


@dataclass
class Wandb:
    mode: str
    project: Optional[str]
    entity: Optional[str]
    dir: str


@dataclass
class Settings:
    scheduler: Schedule
    rates: Rates
    resize: Resize
    backbone: Backbone
    head: Head
    data: Data
    augment: Augment
    optimizer: Optimizer
    loss: Loss
    checklist: dict[str, Any]
    find: Find
    evaluate: Evaluate
    store: StoreSettings
    wandb: Wandb
    lr: Any
    lr_factor: float
    budget: Budget
    size: Optional[int]
    batch_size: int
    bn: str
    seed: int
    init: Optional[str]
    fresh: bool
    monitor: str
    device: str
    precision: str
    deterministic: bool
    threads: Any
    log_every: int
    verbose: bool
    name: Optional[str]
    tags: list[str]
    notes: Optional[str]
    stop_after: Optional[int]
    plan_only: bool
    smoke: bool
