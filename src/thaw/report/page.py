"""report.html: text around the drawn pictures, all in one file that needs nothing but a browser.

Standard library only, but for Pillow where a picture is encoded. Everything that comes from outside is escaped.
"""

import base64
import math
from collections.abc import Mapping
from html import escape
from io import BytesIO
from pathlib import Path, PurePath

from thaw.report.mistakes import matrix_inches
from thaw.report.run_files import headline, run_title
from thaw.runtime.files import BAD_FILES, DISPUTED, as_number, format_duration, phase_results

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

MOST_LISTED = 50  # rows that are shown of a long table
PHASE = {  # the columns of the phase table, as in result.json
    "accuracy": lambda value: f"{value:.2%}",
    "loss": lambda value: f"{value:.4g}",
    "lr": lambda value: f"{value:.3g}",
    "epochs": lambda value: f"{value:g}",
    "seconds": format_duration,
}


def run_html(run: dict, drawn: dict) -> str:
    """The whole page.

    run: as `read_run` makes it, with `pictures`, the array or None for each row of `wrong`. drawn: `curves` and
    `confusion`, an <svg> or nothing, and `finds`, a list of an <svg> or the bytes of a png each.
    """
    result, classes = run["result"], run["classes"]
    sweep = f'job of <a href="../report.html">{escape(run["sweep"])}</a> · ' if run.get("sweep") else ""
    beside = row_of if matrix_inches(len(classes)) < 6 else "".join
    parts = [
        f"<h1>{escape(run_title(run))}</h1>",
        f'<div class="dim">{sweep}{escape(about(result))}</div>',
        *(f'<div class="bad">{escape(line)}</div>' for line in result.get("warnings", ())),
        f'<div class="tiles">{"".join(tile(*row) for row in headline(run))}</div>',
        section("What each phase bought", phase_table(result)),
        section("Learning", drawn["curves"]),
        section("Rate finder", row_of(map(image, drawn["finds"]))),
        section("Confusion", beside([drawn["confusion"], pairs(run["confusion"], classes)])),
        section("Most wrong: truth → prediction, probability", gallery(run)),
        section(f"Classes, worst first ({len(classes)})", class_table(run["per_class"])),
        section("Plan", image(run["timeline"]) + preformatted(run["plan"])),
        section(f"Twins across the splits ({len(run['leaks']) - 1})", leaks(run)),
        section(
            f"Equal pictures of different classes ({len(run['disputed']) - 1})", listed_files(run["disputed"], DISPUTED)
        ),
        section(f"Files left out ({len(run['bad_files']) - 1})", listed_files(run["bad_files"], BAD_FILES)),
        section("How to run it again", preformatted(as_text(result.get("command")), "wrap")),
        section("Made with", versions_table(result)),
    ]
    return document(run_title(run), parts)


def document(name: str, parts: list[str]) -> str:
    """A page that needs nothing but a browser, of parts that are html; empty ones are left out."""
    body = "\n".join(filter(None, parts))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(name)} · thaw</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


# parts of the page; each is '' where there is nothing to show ---------------------------------------------------------


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def about(result: dict) -> str:
    """What was run on what, in a line."""
    overrides = as_text(result.get("overrides")) or ("the defaults" if result else "")
    return " · ".join(part for part in (overrides, as_text(result.get("device"))) if part)


def tile(what: str, value: str, detail: str) -> str:
    return f'<div class="tile">{escape(what)}<b>{escape(value)}</b><small>{escape(detail)}</small></div>'


def image(picture: str | bytes) -> str:
    """An <svg> as it is, a png as a data URI on a white sheet; nothing of nothing."""
    if isinstance(picture, str) or not picture:
        return picture or ""
    return f'<img class="sheet" alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def row_of(parts) -> str:
    """Parts side by side where the page is wide enough; empty ones are left out."""
    parts = "".join(f"<div>{part}</div>" for part in parts if part)
    return parts and f'<div class="row">{parts}</div>'


def table(head: list[str], rows: list[list[str]], numeric: set[int]) -> str:
    """A table of cells that are html already; columns in `numeric` are set to the right."""
    kind = [' class="n"' if i in numeric else "" for i in range(len(head))]
    top = "".join(f"<th{k}>{escape(cell)}</th>" for k, cell in zip(kind, head, strict=True))
    body = ""
    for row in rows:
        cells = (cell if cell.startswith("<td") else f"<td{k}>{cell}</td>" for k, cell in zip(kind, row, strict=True))
        body += f"<tr>{''.join(cells)}</tr>"
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def phase_table(result: dict) -> str:
    """A row for each phase in the order of result.json, with the accuracy gained on the phase before."""
    rows, before = [], math.nan
    for name, fields in phase_results(result).items():
        cells = [escape(name)]
        for field, form in PHASE.items():
            value = as_number(fields.get(field))
            cells.append("" if math.isnan(value) else escape(form(value)))
        accuracy = as_number(fields.get("accuracy"))
        gain = 100 * (accuracy - before)
        kind = "good" if gain > 0 else "bad" if gain < 0 else "dim"
        cells.insert(2, "" if math.isnan(gain) else f'<span class="{kind}">{gain:+.2f}</span>')
        before = before if math.isnan(accuracy) else accuracy
        reused = " (reused)" if fields.get("reused") else ""
        cells.append(escape(as_text(fields.get("stopped_because")) + reused))
        rows.append(cells)
    head = ["phase", "accuracy", "gain", "loss", "rate", "epochs", "time", "why it stopped"]
    return table(head, rows, {1, 2, 3, 4, 5, 6}) if rows else ""


def pairs(counts: list[list[int]], classes: list[str]) -> str:
    """The ten most frequent mistakes, said in words: what a matrix of many classes cannot show."""
    found = [
        (count, sum(row), classes[i], classes[j])
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    found.sort(key=lambda pair: (-pair[0], pair[2], pair[3]))
    if len(classes) < 3 or not found:
        return ""
    rows = [[escape(truth), escape(taken), f"{count} of {n}"] for count, n, truth, taken in found[:10]]
    return "<h2>Most frequent mistakes</h2>" + table(["truth", "taken for", "pictures"], rows, {2})


def class_table(rows: list[tuple]) -> str:
    """Every class with its numbers, the lowest f1 first; classes without a picture last."""

    def share(value: float) -> str:
        return f'<td class="n bar" style="--share:{value:.0%}">{value:.1%}</td>'

    ordered = sorted(rows, key=lambda row: (row[1] == 0, row[4]))
    body = [
        [escape(name), str(n), *(map(share, scores) if n else ["", "", ""]), escape(confused)]
        for name, n, *scores, confused in ordered
    ]
    return table(["class", "n", "precision", "recall", "f1", "most confused with"], body, {1, 2, 3, 4}) if body else ""


def gallery(run: dict) -> str:
    """The most wrong pictures, each with what it is, what it was taken for and how surely."""
    if not run["predictions"]:
        return ""
    cards = []
    for row, picture in zip(run["wrong"], run["pictures"], strict=True):
        shown = '<div class="none">no picture</div>' if picture is None else encoded_image(picture)
        sure = "" if math.isnan(row["confidence"]) else f" · {row['confidence']:.0%}"
        path = escape(row["path"])
        cards.append(
            f'<figure title="{path}">{shown}<figcaption>{escape(row["truth"])}<br>'
            f'<span class="bad">→&nbsp;{escape(row["prediction"])}{sure}</span>'
            f"<small>{escape(PurePath(row['path']).name)}</small></figcaption></figure>"
        )
    if not cards:
        return '<span class="good">No validation picture is wrong.</span>'
    return f'<div class="gallery">{"".join(cards)}</div>'


def encoded_image(picture) -> str:
    """A uint8 array as an <img>: small ones exactly and in squares, large ones as JPEG of at most 320 pixels."""
    from PIL import Image

    shown, file = Image.fromarray(picture), BytesIO()
    form, kind = ("png", "small") if max(shown.size) < 100 else ("jpeg", "")
    shown.thumbnail((320, 320))
    shown.save(file, form, quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{kind}" alt="" src="data:image/{form};base64,{data}">'


def leaks(run: dict) -> str:
    """The pictures that are in two splits, equal or nearly so, and the sheet of the latter."""
    return listed_files(run["leaks"], "leaks.csv") + image(run["leaks_sheet"])


def listed_files(rows: list[list[str]], file: str) -> str:
    """The first fifty rows of a table that lies beside the page, and a link to it."""
    if len(rows) < 2:
        return ""
    head, *body = rows
    shown = [[escape(cell) for cell in (*row, *[""] * len(head))[: len(head)]] for row in body[:MOST_LISTED]]
    what = f"the first {MOST_LISTED} of {len(body):,} in" if len(body) > MOST_LISTED else "as in"
    return f'<p class="dim">{what} <a href="{file}">{file}</a></p>' + table(head, shown, set())


def preformatted(content: str, kind: str = "") -> str:
    return f'<pre class="{kind}">{escape(content)}</pre>' if content else ""


def versions_table(result: dict) -> str:
    """What the run was made with: the facts that result.json has, a line each."""
    keys = ("device", "versions", "commit", "key", "wandb_id")
    rows = [[escape(key), escape(as_text(result[key]))] for key in keys if result.get(key)]
    return table(["what", "which"], rows, set()) if rows else ""


def as_text(value) -> str:
    """Anything as text: lists in one line, dicts as key value pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
