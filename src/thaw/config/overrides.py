"""The grammar of a typed override: sign, key and value."""

import re
import shlex

PLAIN = r"[A-Za-z_/][A-Za-z0-9_/.-]*"  # a string that Hydra accepts without quotes
QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""  # a string in quotes, as Hydra reads it


def split_override(arg: str) -> tuple[str, str, str | None]:
    """Split an override into its sign (`+`, `++`, `~` or ""), key, and value, which is None without a `=`."""
    sign, key, equals, value = re.fullmatch(r"(~|\+{0,2})([^=]*)(=?)(.*)", arg, re.S).groups()
    return sign, key.strip(), value.strip() if equals else None


def split_overrides(argv: list[str]) -> list[tuple[str, str, str | None]]:
    """Return the overrides among the arguments, split."""
    return [split_override(arg) for arg in argv if not re.match(r"--?[A-Za-z]", arg) and (arg[:1] == "~" or "=" in arg)]


def swept_choices(value: str) -> list[str]:
    """Return the values of a sweep such as `a,b` or `choice(a,b)`, without quotes."""
    inner = re.fullmatch(r"(?:choice|shuffle|sort)\((.*)\)", value.strip())
    return [part.strip(" '\"") for part in (inner[1] if inner else value).split(",")]


def without_quoted(value: str) -> str:
    """Return a value without its quoted parts."""
    return re.sub(QUOTED, "", value)


def bracket_depth(value: str) -> int:
    """Return the number of open brackets minus closed ones, outside quotes."""
    return sum((c in "[{(") - (c in "]})") for c in without_quoted(value))


def join_override(sign: str, key: str, value: str | None) -> str:
    return f"{sign}{key}" if value is None else f"{sign}{key}={value}"


def quote(text: str, swept: bool = False) -> str:
    """Quote a text for Hydra's grammar if it needs quotes.

    `swept`: quote interpolations too, because a sweeper escapes unquoted ones, which could not be typed again.
    """
    plain = re.fullmatch(PLAIN, text) and text.lower() not in ("true", "false", "nan", "inf")
    if plain or (not swept and re.fullmatch(r"(\$\{[\w.:]+\}|[\w/.-])*\$\{[\w.:]+\}[\w/.-]*", text)) or text == "???":
        return text
    # Backslashes count as escapes only before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"


def unquote(text: str) -> str:
    """Return a text without its quotes, if it has any."""
    if not re.fullmatch(QUOTED, text, re.S):
        return text
    return re.sub(rf"(\\+)({text[0]}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])


def split_values(value: str) -> list[str]:
    """Split a value at its commas, except those in brackets or quotes."""
    parts, pieces = [], []
    for piece in value.split(","):
        pieces.append(piece)
        part = ",".join(pieces)
        if bracket_depth(part) <= 0 and not re.search("['\"]", without_quoted(part)):
            parts, pieces = [*parts, part.strip()], []
    return parts + [piece.strip() for piece in pieces]  # a bracket or quote is not closed


def in_shell(word: str) -> str:
    """Return a word with the quotes that a shell needs."""
    if re.fullmatch(r"[\w=.,:/+-]+", word):
        return word
    return f"'{word}'" if "'" not in word else f'"{word}"' if not re.search(r'["$`\\!]', word) else shlex.quote(word)
