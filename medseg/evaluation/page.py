"""Pages from the templates beside this file: each one file that needs no other, for screen, phone and paper."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from markupsafe import Markup


def render(template: str, **values: Any) -> str:
    """The page that a template (its file name) makes of these values; every text is escaped.

    Filters beside jinja's own: `figure` (three decimals, a dash for None), `code` (`names` set as code),
    `path` (for an address). Raises jinja2.UndefinedError where the template uses a value that is not given.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(figure=figure, code=_code, path=quote)
    return environment.get_template(template).render(values) + "\n"


def embedded(content: bytes, kind: str = "image/png") -> str:
    """An address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def figure(value: float | None, digits: int = 3) -> str:
    """A number for the page; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _read(name: str) -> str:
    return files("medseg.evaluation").joinpath(name).read_text("utf-8")


def _code(text: str) -> Markup:
    """A sentence for the page, `names` in it set as code."""
    from markupsafe import Markup

    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else p for n, p in enumerate(parts))
