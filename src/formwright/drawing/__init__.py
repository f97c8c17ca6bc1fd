"""Charts and pages: every report, study and the catalogue's site is drawn here, as HTML that needs nothing else."""

from formwright.drawing.axes import (
    Scale,
    Tick,
    accuracy_axis,
    log_axis,
    plain_axis,
    short,
    time_axis,
)
from formwright.drawing.charts import Chart, Line, Mark, Strip, colour, heat_strip, place_labels, polyline
from formwright.drawing.pages import page_environment

__all__ = [
    "Chart",
    "Line",
    "Mark",
    "Scale",
    "Strip",
    "Tick",
    "accuracy_axis",
    "colour",
    "heat_strip",
    "log_axis",
    "page_environment",
    "place_labels",
    "plain_axis",
    "polyline",
    "short",
    "time_axis",
]
