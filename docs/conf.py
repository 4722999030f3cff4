"""Sphinx configuration. Figures are read from benchmarks/results or computed while the pages are built."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Third-party deprecations must not break the page that happens to import them first.
warnings.filterwarnings("ignore", category=DeprecationWarning)

project = "skdp"
author = "the skdp developers"
copyright = "the skdp developers, BSD-3-Clause"
try:
    release = metadata.version("skdp")
except metadata.PackageNotFoundError:  # built from a checkout that is not installed
    sys.path.insert(0, str(HERE.parent))
    import skdp

    release = skdp.__version__
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "figures",
    "result_plots",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "_ext", "Thumbs.db", ".DS_Store"]
templates_path = ["_templates"]
default_role = "code"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"skdp {release}"
html_show_sourcelink = False
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
