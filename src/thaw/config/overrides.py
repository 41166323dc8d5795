"""The grammar of an override as it is typed: its sign, key and value."""

import re

QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""  # a string as Hydra quotes it


def split_override(arg: str) -> tuple[str, str, str | None]:
    """The sign (`+`, `++`, `~` or none), the key and the value of an override; None where there is no `=`."""
    sign, key, equals, value = re.fullmatch(r"(~|\+{0,2})([^=]*)(=?)(.*)", arg, re.S).groups()
    return sign, key.strip(), value.strip() if equals else None


def split_overrides(argv: list[str]) -> list[tuple[str, str, str | None]]:
    """The settings among the arguments, split."""
    return [split_override(arg) for arg in argv if not re.match(r"--?[A-Za-z]", arg) and (arg[:1] == "~" or "=" in arg)]


def swept_choices(value: str) -> list[str]:
    """The values of a sweep such as `a,b` or `choice(a,b)`, without quotes."""
    inner = re.fullmatch(r"(?:choice|shuffle|sort)\((.*)\)", value.strip())
    return [part.strip(" '\"") for part in (inner[1] if inner else value).split(",")]


def without_quoted(value: str) -> str:
    """The value without what is quoted in it."""
    return re.sub(QUOTED, "", value)


def bracket_depth(value: str) -> int:
    """Count the brackets that are left open, quoted ones left out."""
    return sum((c in "[{(") - (c in "]})") for c in without_quoted(value))


def join_override(sign: str, key: str, value: str | None) -> str:
    return f"{sign}{key}" if value is None else f"{sign}{key}={value}"
