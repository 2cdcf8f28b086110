"""The page: one HTML file that needs nothing else, and in which no data is ever code.

What a model answered reaches the page in two ways. Jinja escapes what stands in the markup. What the
script shows stands as JSON in a `<script type="application/json">`, in which no `<` is written, so that
nothing in it ends the element; the script gives it to `textContent`. Should something pass all of that,
the Content-Security-Policy lets nothing run but the one script whose digest it names, and nothing load.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined

from synthc.cli.display import duration
from synthc.cli.report.contents import Contents

MARK = "<!doctype html>\n<!-- made by synthc report -->"
"""How every report begins: what begins otherwise is never overwritten."""


_NONE = "—"
"""What stands where there is no number."""


def page(contents: Contents) -> str:
    """The HTML of a report."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figures": _figures, "dollars": _dollars, "seconds": _seconds}
    style, script = _file("page.css"), _file("page.js")
    data = {"maps": contents.maps, "readings": contents.readings}
    return environment.from_string(_file("page.html.jinja")).render(
        mark=MARK,
        it=contents,
        style=style,
        script=script,
        policy=(
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
            " base-uri 'none'; form-action 'none'"
        ),
        data=as_data(data),
    )


def as_data(value: Any) -> str:
    """A value as JSON that can stand in a script element: nothing in it looks like a tag."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def _file(name: str) -> str:
    return (resources.files("synthc.cli.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What stands for an inline script or style in a policy (https://www.w3.org/TR/CSP3/)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figures(number: int | None) -> str:
    return _NONE if number is None else f"{number:,}"


def _dollars(number: float | None) -> str:
    return _NONE if number is None else f"${number:,.4f}"


def _seconds(number: float | None) -> str:
    if number is None:
        return _NONE
    return f"{number:.2f} s" if number < 10 else duration(number)
