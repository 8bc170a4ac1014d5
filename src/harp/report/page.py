"""Renders the report's two pages from a `RunRecord`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from harp.report import figures, formats, sentences, table
from harp.report.curves import security_svg
from harp.report.doubts import doubts
from harp.report.pictures import strips
from harp.report.reading import read_record
from harp.report.record import RunRecord
from harp.report.templates import environment, look
from harp.runs import write_atomic

_FILTERS = {
    "percent": formats.percent,
    "share": formats.share,
    "interval": formats.interval,
    "span": formats.span,
    "count": formats.count,
    "file_size": formats.file_size,
    "duration": formats.duration,
    "attack": formats.attack,
}


def write_pages(folder: Path) -> Path:
    """The path of `report.html`; see `harp.report.write_report`."""
    record = read_record(folder)
    facts = _facts(record)
    html = _environment().get_template("page.html.j2").render(facts, **look(), **_pictures(record))
    markdown = _environment(finalize=_markdown).get_template("page.md.j2").render(facts)
    write_atomic(folder / "report.md", markdown.encode())
    write_atomic(folder / "report.html", html.encode())
    return folder / "report.html"


def _environment(**options: Any) -> Environment:
    made = environment(**options)
    made.filters.update(_FILTERS)
    return made


def _markdown(value: object) -> Markup:
    """`value` so that Markdown shows it as it is: no tag, emphasis, code, link or cell begins in it."""
    text = str(escape(value)).replace("&#39;", "'").replace("&#34;", '"')
    return Markup("".join(f"\\{letter}" if letter in r"\`*_[]|~" else letter for letter in text))


def _facts(record: RunRecord) -> dict[str, Any]:
    evaluation, allocation = record.evaluation, record.allocation
    return {
        "record": record,
        "allocation": allocation,
        "said": {
            "kept": sentences.kept(record),
            "robust": sentences.robust(record.final.accuracies["worst"]),
            "budget": sentences.budget(allocation),
            "size": sentences.size(record),
            "package": sentences.package(record),
            "form": sentences.form(allocation),
            "ties": sentences.ties(allocation),
            "course": sentences.course(record),
            "macs": sentences.macs(allocation),
        },
        "headline": formats.share(*record.final.left(allocation.of)),
        "doubts": doubts(record),
        "labels": table.labels(record),
        "threat": formats.threat_name(evaluation.threat),
        "recipe_name": record.recipe["name"],
        "model": record.recipe["model"]["name"],
        "dense": evaluation.models.get("dense"),
        "final": record.final,
        "sizes": {heading: record.final.left(of) for of, heading in table.SIZES.items()},
        "rows": table.rows(record),
        "stages": [(stage, sentences.objective(record.settings(stage))) for stage in record.stages],
        "environment": [
            ("training computed in", sentences.precision(record.recipe["precision"])),
            *((name, formats.fact(value)) for name, value in record.environment.items()),
        ],
    }


def _security(record: RunRecord) -> Markup | None:
    """Every model's curve where each has one, with the worst case of all attacks as a point on the threat's eps."""
    models = record.evaluation.models
    if record.curves.keys() != models.keys():
        return None
    worst = {name: model.accuracies["worst"] for name, model in models.items()}
    labels = table.labels(record)
    points = {labels[name]: value for name, value in worst.items() if not value.doubts}
    curves = {labels[name]: curve for name, curve in record.curves.items()}
    return security_svg(curves, record.evaluation.threat, points)


def _pictures(record: RunRecord) -> Mapping[str, Any]:
    prune = record.search
    classes = record.data.classes
    shown = {
        name: label for name, label in table.labels(record).items() if name == "dense" or name == record.final.name
    }
    return {
        "security": _security(record),
        "keep_shares": figures.keep_shares(record.allocation),
        "validation": figures.validation(record.stages),
        "rates": figures.rates(prune),
        "budget": figures.budget(prune, record.allocation),
        "forces": figures.forces(prune),
        "strips": strips(record.examples, classes, shown),
        "true_classes": [classes[label] for label in record.examples.labels],
    }
