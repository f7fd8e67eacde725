"""The table of presets in docs/encoders.md; ``python -m msiscale.features.encoders_table``."""

from __future__ import annotations

from pathlib import Path

from msiscale.config_schema import between
from msiscale.presets import PRESETS, Preset

_MARKS = ("<!-- presets -->\n", "<!-- end of presets -->\n")
_HEAD = "| `--encoder` | built by | channels | px a cell | patch, µm/px | mean; sd | on its card | "


def table() -> str:
    """The presets as Markdown."""
    head = [f"{_HEAD}licence of the weights | weights |", "|---|---|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(preset) for preset in PRESETS.values()), ""])


def _row(preset: Preset) -> str:
    mean, std = (", ".join(f"{v:.3g}" for v in three) for three in preset.normalisation)
    hub = preset.page.count("/") == 1
    page = f"[{preset.page}](https://huggingface.co/{preset.page})" if hub else preset.page
    cells = (
        f"`{preset.name}`",
        preset.library,
        f"{preset.width:,}",
        str(preset.stride),
        f"{preset.patch} px, {preset.mpp:g}",
        f"{mean}; {std}",
        preset.card,
        preset.licence,
        f"{page}{' (login)' if preset.gated else ''}",
    )
    return f"| {' | '.join(cells)} |"


def with_table(page: str) -> str:
    """The text of a page with the table of now between its marks."""
    return between(_MARKS, table(), page)


if __name__ == "__main__":
    page = Path("docs/encoders.md")
    page.write_text(with_table(page.read_text()))
