"""How Sphinx builds the manual: `sphinx-build -W docs build/docs`."""

from tokensign import __version__

project = "tokensign"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
html_title = f"tokensign {release}"
html_show_copyright = False
nitpicky = False
