"""Random seeds derived from the name of what is drawn."""

import json
from hashlib import blake2b


def seed_for(*key) -> int:
    """Return a seed in [0, 2^63) for a key of strings and numbers, the same on every machine and in every process."""
    return int.from_bytes(blake2b(json.dumps(key).encode(), digest_size=8).digest(), "big") >> 1
