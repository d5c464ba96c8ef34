"""Figures into text and HTML, by the templates that come with the package."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

_environment = Environment(
    loader=PackageLoader("svc_report"),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(report: str, style: str, **figures: object) -> str:
    """One report as `text` or `html`.

    Raises:
        jinja2.UndefinedError: if the template needs a figure that is not there.
    """
    return _environment.get_template(f"{report}.{style}.j2").render(figures)
