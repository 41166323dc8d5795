"""The recipes that scripts/bench/real.py compares thaw with; each call of this script runs one of them.

python scripts/bench/real_peers.py RECIPE FOLDER NETWORK WEIGHTS SIZE SEED EPOCHS     print one JSON line

FOLDER has train/, valid/ and test/ with a folder per class, NETWORK is a name in timm, WEIGHTS its safetensors file.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from thaw.config.paths import require_checkout
from thaw.runtime.console import say
from thaw.runtime.entry import Parser, count, run

require_checkout(__file__)

BATCH = 64
PENALTIES = [10 ** (k / 4) for k in range(-16, 5)]  # L2, added to the mean loss
PLAIN_EPOCHS, PLAIN_LR, PLAIN_DECAY, WARMUP = 7, 3e-4, 0.9, 0.1


class Images(torch.utils.data.Dataset):
    """The images of one split with their labels, in the order of their paths."""

    def __init__(self, folder: Path, split: str, transform):
        self.paths, self.transform = sorted((folder / split).glob("*/*")), transform
        classes = sorted(path.name for path in (folder / "train").iterdir())
        self.labels = [classes.index(path.parent.name) for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        from PIL import Image

        return self.transform(Image.open(self.paths[row]).convert("RGB")), self.labels[row]


def model_of(network: str, weights: str, classes: int) -> torch.nn.Module:
    """Return the pretrained network with a new linear head."""
    import timm
    from safetensors.torch import load_file

    model = timm.create_model(network)
    model.load_state_dict(load_file(weights))
    model.reset_classifier(classes)
    return model.to(memory_format=torch.channels_last)


def splits_of(folder: Path, network: str, size: int, training: bool):
    """Return the three splits with timm's transforms; `training`: with its augmentation of the training images."""
    import timm
    from timm.data import create_transform

    about = timm.get_pretrained_cfg(network)
    both = {"input_size": size, "mean": about.mean, "std": about.std, "interpolation": "bicubic"}
    plain = create_transform(**both, crop_pct=0.875)
    augmented = create_transform(**both, is_training=True, scale=(0.35, 1.0), color_jitter=0.2)
    return [Images(folder, s, augmented if training and s == "train" else plain) for s in ("train", "valid", "test")]


@torch.inference_mode()
def outputs(model, images: Images, features: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits, or the pooled features, and the labels of a split."""
    model.eval()
    seen = []
    for x, _ in torch.utils.data.DataLoader(images, BATCH):
        x = x.to(memory_format=torch.channels_last)
        seen.append(model.forward_head(model.forward_features(x), pre_logits=True) if features else model(x))
    return torch.cat(seen).double().numpy(), np.array(images.labels)


def figures(valid, test) -> dict:
    """Return the figures of a run from logits and labels, with the loss and the hit of each test image."""
    out = {}
    for name, (logits, labels) in (("valid", valid), ("test", test)):
        logs = torch.from_numpy(logits).log_softmax(1).numpy()
        losses, hits = -logs[np.arange(len(labels)), labels], logs.argmax(1) == labels
        out |= {name: float(hits.mean()), f"{name}_loss": float(losses.mean())}
    return out | {"hits": [int(hit) for hit in hits], "losses": [round(float(loss), 3) for loss in losses]}


def regression(folder: Path, network: str, weights: str, size: int, seed: int, epochs: int):
    """Fit logistic regressions on the frozen features; return figures and classifier of the lowest validation loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    splits = splits_of(folder, network, size, training=False)
    model = model_of(network, weights, max(splits[0].labels) + 1)
    (x, y), valid, test = (outputs(model, split, features=True) for split in splits)
    tried = []
    for penalty in PENALTIES:
        found = LogisticRegression(C=1 / (penalty * len(y)), max_iter=2000).fit(x, y)
        tried.append((log_loss(valid[1], found.predict_proba(valid[0])), penalty, found))
    _, penalty, best = min(tried, key=lambda row: row[:2])
    with torch.no_grad():
        rows, bias = (torch.tensor(v, dtype=torch.float32) for v in (best.coef_, best.intercept_))
        if len(rows) == 1:  # two classes share one row
            rows, bias = torch.cat([-rows, rows]) / 2, torch.cat([-bias, bias]) / 2
        model.get_classifier().weight.copy_(rows)
        model.get_classifier().bias.copy_(bias)
    rows, bias = rows.double().numpy(), bias.double().numpy()
    logits = ((x @ rows.T + bias, labels) for x, labels in (valid, test))
    return figures(*logits) | {"penalty": penalty}, model


def logistic(*words) -> dict:
    return regression(*words)[0]


def plain(folder: Path, network: str, weights: str, size: int, seed: int, epochs: int) -> dict:
    """Fine-tune from the logistic regression: AdamW, layer-wise decay, warm-up, half a cosine; take the last epoch."""
    from timm.optim import create_optimizer_v2

    torch.manual_seed(seed)
    _, model = regression(folder, network, weights, size, seed, epochs)
    train, valid, test = splits_of(folder, network, size, training=True)
    loader = torch.utils.data.DataLoader(train, BATCH, shuffle=True)
    optimizer = create_optimizer_v2(model, "adamw", lr=PLAIN_LR, weight_decay=0.05, layer_decay=PLAIN_DECAY)
    steps = PLAIN_EPOCHS * len(loader)
    peaks, step = [group["lr"] * group.get("lr_scale", 1.0) for group in optimizer.param_groups], 0
    for _ in range(PLAIN_EPOCHS):
        model.train()
        for x, y in loader:
            share = step / steps
            rate = share / WARMUP if share < WARMUP else 0.5 * (1 + np.cos(np.pi * (share - WARMUP) / (1 - WARMUP)))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            torch.nn.functional.cross_entropy(model(x.to(memory_format=torch.channels_last)), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return figures(outputs(model, valid), outputs(model, test)) | {"epochs": PLAIN_EPOCHS}


def fine_tune(folder: Path, network: str, weights: str, size: int, seed: int, epochs: int, find: bool = False) -> dict:
    """Run fastai's fine_tune as its documentation does; `find`: with the rate of its own finder, not its default."""
    import timm
    from fastai.vision import all as fastai
    from safetensors.torch import load_file

    fastai.set_seed(seed, reproducible=True)
    about = timm.get_pretrained_cfg(network)
    dls = fastai.ImageDataLoaders.from_folder(
        folder, train="train", valid="valid", bs=BATCH, num_workers=0, seed=seed, item_tfms=fastai.Resize(size),
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(about.mean, about.std)],
    )  # fmt: skip
    learn = fastai.vision_learner(dls, network, pretrained=False, metrics=fastai.accuracy, path=folder)
    body, given = learn.model[0].model, load_file(weights)
    body.load_state_dict({name: given[name] for name in body.state_dict()})
    rates = {}
    with learn.no_bar(), learn.no_logging():
        if find:
            rates = {"base_lr": float(learn.lr_find(show_plot=False).valley)}
        learn.fine_tune(epochs - 1, **rates)
        sets = dls.valid, dls.test_dl(sorted((folder / "test").glob("*/*")), with_labels=True)
        seen = [learn.get_preds(dl=one) for one in sets]
    return figures(*((p.clamp_min(1e-7).log().numpy(), y.numpy()) for p, y in seen)) | rates | {"epochs": epochs}


def fine_tune_found(*words) -> dict:
    return fine_tune(*words, find=True)


RECIPES = {
    "logistic regression": logistic,
    "plain loop": plain,
    "fastai": fine_tune,
    "fastai, found rate": fine_tune_found,
}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("recipe", choices=RECIPES, metavar="RECIPE", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the images")
    parser.add_argument("network", metavar="NETWORK", help="name in timm")
    parser.add_argument("weights", metavar="WEIGHTS", help="safetensors file")
    for name in ("size", "seed", "epochs"):
        parser.add_argument(name, type=count if name == "size" else int, metavar=name.upper(), help="whole number")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    words = args.folder, args.network, args.weights, args.size, args.seed, args.epochs
    began = time.perf_counter()
    say(json.dumps(RECIPES[args.recipe](*words) | {"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    sys.exit(run(main))
