"""The linked panels of a specimen (Bokeh): empty until `report.js` fills them from the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    LinearColorMapper,
    MetricLength,
    PanTool,
    Range1d,
    ScaleBar,
    TapTool,
    WheelZoomTool,
)
from bokeh.palettes import Cividis256, Viridis256
from bokeh.plotting import figure as new_figure

from msiscale.report.document import embedded
from msiscale.report.drawing import BLUE, ORANGE, VERMILION

Figure = Any  # mypy does not follow bokeh
_WIDE = (0.4, 2.5)  # of a panel's height over its width


def viewer(content: dict[str, Any]) -> dict[str, Any]:
    """The document of a specimen's `content` as JSON, and the root of each panel by name."""
    width, height = content["size_um"]
    middle, half = (width / 2, height / 2), max(width, height) / 2
    ratio = min(max(height / width, _WIDE[0]), _WIDE[1])
    ranges = {
        "x_range": Range1d(0, width, name="x_range", bounds=_around(middle[0], half)),
        "y_range": Range1d(height, 0, name="y_range", bounds=_around(middle[1], half)),
    }
    shared = {
        "slide": ColumnDataSource({"url": [], "w": [], "h": []}, name="slide"),
        "outline": ColumnDataSource({"x": [], "y": []}, name="outline"),
        "marker": ColumnDataSource({"x": [], "y": []}, name="marker"),
    }
    panels = {"he": _panel(ranges, ratio, shared)}
    _over(panels["he"], shared)
    _scale_bar(panels["he"], ranges["x_range"])
    for model in content["models"]:
        panels[model] = _map_panel(model, ranges, ratio, shared, size=(width, height))
    if content["ions"] or content["modes"]:
        for name in ("measured", "predicted"):
            panels[name] = _map_panel(name, ranges, ratio, shared, size=(width, height))
        panels["spectrum"] = _spectrum(whole=content["whole"])
    return embedded(panels)


def _around(middle: float, half: float) -> tuple[float, float]:
    """How far a panel may be moved."""
    return middle - 2 * half, middle + 2 * half


def _panel(ranges: dict[str, Any], ratio: float, shared: dict[str, ColumnDataSource]) -> Figure:
    """The H&E with what lies over it; no axes, so that a pixel is as high as it is wide."""
    wheel = WheelZoomTool()
    panel = new_figure(
        **ranges,
        sizing_mode="scale_width",
        aspect_ratio=1 / ratio,
        min_border=0,
        toolbar_location=None,
        tools=[PanTool(), wheel, TapTool()],
        background_fill_color="#f4f4f4",
        border_fill_color=None,
        outline_line_color="#bbbbbb",
    )
    panel.toolbar.active_scroll = None  # `report.js`: with the Ctrl key, else the page scrolls
    panel.axis.visible = False
    panel.grid.visible = False
    panel.image_url(
        "url", x=0, y=0, w="w", h="h", anchor="top_left", source=shared["slide"], retry_attempts=0
    )
    return panel


def _over(panel: Figure, shared: dict[str, ColumnDataSource]) -> None:
    """The annotation's border and the chosen pixel, on any ground."""
    for colour, width in (("white", 3.0), ("black", 1.2)):
        panel.multi_line("x", "y", source=shared["outline"], color=colour, line_width=width)
    for colour, width in (("white", 5.0), (VERMILION, 2.5)):
        panel.scatter(
            "x",
            "y",
            source=shared["marker"],
            size=15,
            marker="circle",
            fill_color=None,
            line_color=colour,
            line_width=width,
        )


def _map_panel(
    name: str,
    ranges: dict[str, Any],
    ratio: float,
    shared: dict[str, ColumnDataSource],
    *,
    size: tuple[float, float],
) -> Figure:
    panel = _panel(ranges, ratio, shared)
    colours = Viridis256 if name in ("measured", "predicted") else Cividis256
    mapper = LinearColorMapper(palette=colours, low=0, high=1, nan_color="rgba(0, 0, 0, 0)")
    mapper.name = f"{name}_colours"
    nothing = np.full((1, 1), np.nan, np.float32)
    source = ColumnDataSource({"image": [nothing]}, name=f"{name}_map")
    drawn = panel.image(
        "image", x=0, y=0, dw=size[0], dh=size[1], color_mapper=mapper, source=source
    )
    drawn.name = f"{name}_image"
    value = "@image{0.000}" if name not in ("measured", "predicted") else "@image{0.00a}"
    panel.add_tools(HoverTool(renderers=[drawn], tooltips=value))
    _over(panel, shared)
    return panel


def _spectrum(*, whole: bool) -> Figure:
    """Two spectra of a pixel, one of them mirrored; what its modes give where not all is there."""
    plot = new_figure(
        height=340,
        x_range=Range1d(0, 1, name="mz_range"),
        y_range=Range1d(-1, 1, name="intensity_range"),
        sizing_mode="stretch_width",
        tools="xpan,xbox_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        output_backend="canvas",
    )
    plot.toolbar.logo = None
    plot.update(outline_line_color=None, border_fill_color=None, background_fill_color=None)
    empty: dict[str, list[float]] = {"mz": [], "value": [], "end": []}
    drawn = (
        ("reconstructed", "#a0a0a0", "measured, from its modes", 1.0),
        ("measured", BLUE, "measured", 2.0),
        ("predicted", ORANGE, "predicted from H&E, downwards", 1.5),
    )
    for name, colour, label, width in drawn[1:] if whole else drawn:
        source = ColumnDataSource(dict(empty), name=f"{name}_spectrum")
        plot.segment("mz", 0, "mz", "end", source=source, color=colour, line_width=width)
        tops = plot.scatter("mz", "end", source=source, color=colour, size=4, legend_label=label)
        tips = [("m/z", "@mz{0.0000}"), (label, "@value{0.000a}")]
        plot.add_tools(HoverTool(renderers=[tops], tooltips=tips))
    words = ColumnDataSource({"mz": [], "end": [], "text": []}, name="labels")
    plot.text(
        "mz",
        "end",
        "text",
        source=words,
        text_font_size="11px",
        text_align="center",
        text_baseline="bottom",
        y_offset=-4,
    )
    plot.xaxis.axis_label = "m/z"
    plot.yaxis.axis_label = "intensity"
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font_style = "normal"
    legend = plot.legend[0]
    plot.add_layout(legend, "above")
    legend.update(orientation="horizontal", border_line_color=None, click_policy="hide")
    legend.update(label_text_font_size="12px", ncols="auto", padding=2)
    return plot


def _scale_bar(panel: Figure, x_range: Range1d) -> None:
    """A bar of a round length in a corner."""
    panel.add_layout(
        ScaleBar(
            range=x_range,
            unit="µm",
            dimensional=MetricLength(),
            location="bottom_left",
            length_sizing="adaptive",
            bar_length=0.25,
            background_fill_alpha=0.75,
            border_line_color=None,
            padding=4,
            label_text_font_size="11px",
        )
    )


def gradient(palette: tuple[str, ...], steps: int = 12) -> str:
    """A palette as a CSS gradient, for the keys beside the maps."""
    stops = [palette[round(i * (len(palette) - 1) / (steps - 1))] for i in range(steps)]
    return f"linear-gradient(to right, {', '.join(stops)})"


PROBABILITY, INTENSITY = gradient(Cividis256), gradient(Viridis256)
