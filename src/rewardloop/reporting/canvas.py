"""What the report's pictures are drawn on: colours, style, and how a figure becomes inline SVG.

Colours are written as CSS variables, so that one picture serves the light and the dark theme; ids are prefixed with the
picture's name, because all pictures share one page. The palette is Okabe and Ito's, safe for colour-blind readers.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# Stand-ins matplotlib accepts as colours; the page's style sheet says what each variable is in either theme.
INK, SOFT, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
BLUE, ORANGE, GREEN, PURPLE = "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--grid",
    PAPER: "--paper",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rewardloop",
    "text.parse_math": False,  # a slice may be called "$5 and $6"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
}
WIDTH = 4.7  # inches; half a page, so that two stand side by side and one fills a telephone


@contextmanager
def style() -> Iterator[None]:
    """Everything inside is drawn in the report's style."""
    with mpl.rc_context(_STYLE):
        yield


def running_mean(values: Sequence[float]) -> np.ndarray[Any, Any]:
    """Mean of the last tenth of the curve up to each point; the first points average what there is."""
    window = max(1, len(values) // 10)
    sums = np.cumsum(np.insert(np.asarray(values, dtype=float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def one_plot(height: float) -> tuple[Any, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.locator_params(nbins=6)
    return figure, axes


def legend_above(axes: Any) -> None:
    """Outside the data, left-aligned, so that a legend never hides a curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.2, handlelength=1.6)


def to_svg(figure: Any, name: str, alt: str) -> Markup:
    """The figure as an ``<svg>`` element for HTML: no prolog, no name spaces, no fixed size, ids of its own."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The reader's own font is used; a glyph that matplotlib's lacks only costs it an exact measure.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    match = re.search(r'viewBox="([^"]+)"', text)
    assert match is not None
    opening = f'<svg class="plot" viewBox="{match[1]}" role="img" aria-label="{escape(alt)}">'
    return Markup(opening + text[text.index(">") + 1 :].strip())  # noqa: S704 - matplotlib escapes every text
