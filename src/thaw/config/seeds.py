"""seeds=N: the typed command with N seeds, as a sweep."""

import re

from thaw.runtime.errors import UserError

Typed = list[tuple[str, str, str | None]]  # sign, key and value of each setting


def with_seeds(flags: list[str], typed: Typed) -> tuple[list[str], Typed]:
    """Replace seeds=N by -m and a range of N seeds that begins with `seed`; seeds=1 is left out.

    Raise UserError (exit 2) if N is not a whole number from 1 to 999, or if several values of seed or hydra.mode=RUN
    contradict it.
    """
    asked = [value for _, key, value in typed if key == "seeds"]
    if not asked:
        return flags, typed
    if not re.fullmatch(r"[1-9]\d{0,2}", n := asked[-1] or ""):
        raise UserError(2, f"seeds={n}: must be a whole number from 1 to 999; for given seeds, type -m seed=3,7")
    others = [one for one in typed if one[1] != "seeds"]
    if n == "1":
        return flags, others
    values = {key: value for _, key, value in others}
    first = values.get("seed", "0") or ""
    if not re.fullmatch(r"\d+", first):
        raise UserError(2, f"seeds={n} seed={first}: give one of the two, or one value of seed, the first of {n}")
    if values.get("hydra.mode") == "RUN":
        raise UserError(2, f"seeds={n} is a sweep and contradicts hydra.mode=RUN; remove one of the two")
    if not {"-m", "--multirun"} & set(flags):
        flags = ["-m", *flags]
    others = [one for one in others if one[1] != "seed"]
    return flags, [*others, ("", "seed", f"range({first},{int(first) + int(n)})")]


def refuse_search(asked: Typed, typed: Typed) -> None:
    """Raise UserError (exit 2) if seeds=N is `asked` for a search; `typed` includes the chosen plugins of Hydra."""
    numbers = [value for _, key, value in asked if key == "seeds" and value != "1"]
    if numbers and [value for _, key, value in typed if key == "hydra/sweeper"][-1:] == ["optuna"]:
        what = f"seeds={numbers[-1]}: a search would vary the seed too"
        raise UserError(2, f"{what}; repeat its best job with seeds={numbers[-1]} instead")
