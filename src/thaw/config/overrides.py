"""The grammar of an override as it is typed: its sign, key and value."""

import re
import shlex

PLAIN = r"[A-Za-z_/][A-Za-z0-9_/.-]*"  # what Hydra's grammar takes as a string without quotes
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


def quote(text: str, swept: bool = False) -> str:
    """Quoted as Hydra's grammar wants it, where it needs quotes.

    swept: for a sweep, whose sweeper escapes what is interpolated without quotes, and nobody could type that again.
    """
    plain = re.fullmatch(PLAIN, text) and text.lower() not in ("true", "false", "nan", "inf")
    if plain or (not swept and re.fullmatch(r"(\$\{[\w.:]+\}|[\w/.-])*\$\{[\w.:]+\}[\w/.-]*", text)) or text == "???":
        return text
    # Backslashes count as escapes only before a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), text) + "'"


def unquote(text: str) -> str:
    """The text that is quoted, or that is not."""
    if not re.fullmatch(QUOTED, text, re.S):
        return text
    return re.sub(rf"(\\+)({text[0]}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])


def split_values(value: str) -> list[str]:
    """The parts of a value that commas separate, those in brackets and quotes left out."""
    parts, pieces = [], []
    for piece in value.split(","):
        pieces.append(piece)
        part = ",".join(pieces)
        if bracket_depth(part) <= 0 and not re.search("['\"]", without_quoted(part)):
            parts, pieces = [*parts, part.strip()], []
    return parts + [piece.strip() for piece in pieces]  # of what is left open each piece is one


def in_shell(word: str) -> str:
    """A word in the quotes that a shell needs."""
    if re.fullmatch(r"[\w=.,:/+-]+", word):
        return word
    return f"'{word}'" if "'" not in word else f'"{word}"' if not re.search(r'["$`\\!]', word) else shlex.quote(word)


def options_of(errors: dict[str, Exception]) -> list[str]:
    options = [getattr(one, "options", None) or [] for one in errors.values()]
    return [name for names in options for name in names if not name.startswith("_")]
