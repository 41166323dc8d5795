"""Derive the seed of every draw from what names it."""

import json
from hashlib import blake2b


def seed_for(*key) -> int:
    """A seed in [0, 2^63) from any key of strings and numbers, the same on every machine and in every process."""
    return int.from_bytes(blake2b(json.dumps(key).encode(), digest_size=8).digest(), "big") >> 1
