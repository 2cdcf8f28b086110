"""How Sphinx makes a site of these pages: `sphinx-build -W docs build/docs`.

It is made and read without a network: fonts, styles and scripts come with the theme.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lexer import SqlLexer, SynthLexer
from sphinx.application import Sphinx

project = "synthc"
copyright = "the authors of synthc, Apache-2.0"  # noqa: A001 - as Sphinx reads it
html_title = "synthc"

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False
highlight_language = "text"

html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
pygments_style = "friendly"
pygments_dark_style = "native"


def setup(app: Sphinx) -> None:
    """Called by Sphinx: the languages of the specs."""
    app.add_lexer("synth", SynthLexer)
    app.add_lexer("sql", SqlLexer)
