"""Every setting with its type.

All packages work with these plain dataclasses; `thaw.config.composed` derives from them the classes that Hydra composes
into. They have no defaults but None: each default is in one yaml in conf/. If the choices of a group share a
dataclass, fields that the active choice does not use are None.
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
    """The length of a phase that states none itself; typed as scheduler.cycles and so on, or as epochs."""

    cycles: int = number(1, 64)
    cycle_len: int = number(1, 10_000)  # epochs of the first cycle
    cycle_mult: int = number(1, 16)  # factor from the length of one cycle to the next
    max_cycles: Optional[int] = number(1, 64)  # limit for `until: overfit`; null: cycles + 1
    epochs: Optional[int] = number(1, 10_000)  # a budget in epochs, in place of cycles


@dataclass
class Rates:
    split: str
    ratios: Optional[list[Any]] = None  # numbers or fractions such as 1/9, one per layer group
    decay: Optional[float] = None  # layer_decay: factor from a layer to the layer before it


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
    hidden: Optional[int] = None  # fastai: output features of the first linear layer
    drop: Optional[list[float]] = None  # fastai: dropout before each of the two linear layers


@dataclass
class DataFacts:
    images: Optional[int] = None  # training and validation images together
    test: Optional[int] = None
    classes: Optional[int] = None


@dataclass
class Data:
    kind: str
    root: Optional[str]
    valid: float  # share of each class, if the data do not name validation images
    fold: Optional[int]  # cross-validation: 0 to 4, the fifth that validates
    group: Optional[str]  # a regular expression on the path, or a column of the table
    limit: Optional[int]
    classes: Optional[str]  # a table with the columns from,to
    labels: Optional[str]  # a table with the columns path,label
    workers: Any
    pixels_budget: str  # largest size of the decoded images kept in the store
    crop_pct: float  # shorter side of the stored images = size / crop_pct
    max_bad: float  # largest tolerated share of unreadable files
    max_pixels: float
    min_side: int
    allow_missing: bool
    leak: str
    facts: DataFacts
    detail: Optional[float] = None  # shapes: larger values make the differences between classes finer
    test: Optional[int] = None  # shapes: number of test images
    name: Optional[str] = None  # torchvision: the dataset
    images: Optional[str] = None  # csv: the folder of the images; null: that of the table
    path_column: Optional[str] = None  # csv; null: recognised by its name
    label_column: Optional[str] = None
    split_column: Optional[str] = None  # csv; null: recognised by its name; none: no such column


@dataclass
class Augment:
    crop: str  # whole | random | zoom
    scale: Optional[list[float]]  # bounds. random: share of the area; zoom: shorter side / size. See `crop_scale`
    transforms: dict[str, Any]  # albumentations transforms by name, in order
    mixup: float  # alpha; 0: off
    cutmix: float  # alpha; 0: off; with mixup, each step uses one of the two


@dataclass
class Loss:
    smoothing: float
    balance: str


@dataclass
class Evaluate:
    tta: int  # number of augmented views besides the plain view; 0: off
    ensemble: int  # number of cycle ends that are combined; 0: off
    calibrate: bool  # whether the exported network's logits are divided by a temperature


@dataclass
class Find:
    rule: str
    min_lr: float
    max_lr: float
    trials: int
    trial_steps: int
    stored_steps: int
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
    minutes: Optional[float]
    size: Optional[int]
    batch_size: Any
    stored_batch: Any
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
