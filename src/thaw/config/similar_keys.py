"""Suggestions for a mistyped key, from the names in other programs and from similar spelling."""

from difflib import get_close_matches

# Names in other programs.
ALIASES = {
    **dict.fromkeys(("model", "arch", "architecture", "net", "network", "encoder"), "backbone"),
    **dict.fromkeys(("learning_rate", "max_lr", "base_lr", "rate", "lrs"), "lr"),
    **dict.fromkeys(("optim", "opt"), "optimizer"),
    **dict.fromkeys(("sched", "schedule", "lr_scheduler"), "scheduler"),
    **dict.fromkeys(("dataset", "datamodule"), "data"),
    **dict.fromkeys(("path", "dir", "folder", "data.path", "data.dir", "data_dir", "data.folder"), "data.root"),
    **dict.fromkeys(("folds", "kfold", "cv", "data.folds"), "data.fold"),
    **dict.fromkeys(("val_split", "valid_pct", "val_pct", "test_size", "data.val"), "data.valid"),
    **dict.fromkeys(("img_size", "image_size", "resolution", "data.size", "sz"), "size"),
    **dict.fromkeys(("bs", "batch", "data.batch_size"), "batch_size"),
    **dict.fromkeys(("wd", "decay"), "optimizer.weight_decay"),
    **dict.fromkeys(("epoch", "num_epochs", "max_epochs", "trainer.max_epochs"), "epochs"),
    **dict.fromkeys(("num_workers", "n_workers"), "data.workers"),
    **dict.fromkeys(("gpu", "gpus", "accelerator"), "device"),
    **dict.fromkeys(("pretrained", "weights", "checkpoint"), "backbone.weights"),
    **dict.fromkeys(("aug", "augmentation", "transforms"), "augment"),
    **dict.fromkeys(("phases", "recipe"), "checklist"),
    **dict.fromkeys(("resume", "ckpt"), "init"),
    **dict.fromkeys(("ratios", "layer_rates", "discriminative"), "rates.ratios"),
    "label_smoothing": "loss.smoothing",
    "amp": "precision",
    "logger": "wandb",
}
OTHER_VALUES = ("gpu", "gpus", "accelerator", "pretrained", "weights", "checkpoint", "resume", "ckpt", "amp", "logger")
# Names in ALIASES whose values differ from those of the setting here.


def close_keys(key: str, known: list[str]) -> list[str]:
    """Return up to three known keys: the alias, else those with the same last part, else those spelt alike."""
    if key in ALIASES:
        return [ALIASES[key]]
    last = key.split(".")[-1]
    same = [name for name in known if name.split(".")[-1] == last and ".facts." not in name]
    if same or last in ALIASES:
        return (same or [ALIASES[last]])[:3]
    close = get_close_matches(key, known, 3, 0.7)
    close = [name for name in close if not name.startswith(f"{close[0]}.")]  # for a group, not its settings too
    lasts = get_close_matches(last, [name.split(".")[-1] for name in known], 1, 0.75)
    return close or [name for name in known if name.split(".")[-1] in lasts][:3]
