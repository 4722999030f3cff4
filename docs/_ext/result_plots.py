"""The directive ``result-plot``: a plot of a committed JSON file, drawn while the page is built."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


class ResultPlot(Directive):
    """Show ``benchmarks/plots.py``'s plot of ``benchmarks/results/<argument>.json``; nothing where that is missing."""

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The plot as inline SVG."""
        name = self.arguments[0]
        self.state.document.settings.env.note_dependency(str(BENCHMARKS / "results" / f"{name}.json"))
        sys.path.insert(0, str(BENCHMARKS))
        import plots

        figure = plots.draw(name)
        if figure is None:
            return []
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plots.plt.close(figure)
        drawing = buffer.getvalue()
        drawing = drawing[drawing.index("<svg") :]
        text = f'<div role="img" aria-label="{self.options["alt"]}" style="background: white">{drawing}</div>'
        return [nodes.raw("", text, format="html")]


def setup(app):
    """Register the directive."""
    app.add_directive("result-plot", ResultPlot)
    return {"parallel_read_safe": True}
