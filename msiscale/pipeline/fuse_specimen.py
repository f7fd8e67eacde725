"""A specimen in its run, as `msiscale fuse` sees it: its arrays, its slide, its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.fusion import Measured, nested
from msiscale.fusion.variables import halo_of, raster_pixels, slide_on_raster, slide_variables
from msiscale.grid import Block, Floats
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.slide.reader import open_reader
from msiscale.slide.working import WorkingImage, working
from msiscale.store import StoredSpecimen, array_of, create_array, join, open_group, write_block


@dataclass(frozen=True)
class FusedSpecimen:
    """A specimen in its run.

    Attributes
    ----------
    out : URL of the run
    specimen : Specimen
    columns : of the m/z axis, ascending
    parts : into how many the fine grid cuts a pixel of the MSI, each way
    """

    out: str
    specimen: Specimen
    columns: tuple[int, ...]
    parts: int

    @property
    def state_url(self) -> str:
        return join(self.out, "state.zarr", self.specimen.name)

    @property
    def stored(self) -> StoredSpecimen:
        """``cohort.zarr/<specimen>``, to read."""
        return StoredSpecimen.of(self.out, self.specimen.name)

    @property
    def fusion(self) -> zarr.Group:
        """``state.zarr/<specimen>/fusion``, to write."""
        return open_group(self.state_url, "a").require_group("fusion")

    @property
    def per_pixel(self) -> int:
        """Raster pixels to a pixel of the MSI."""
        return raster_pixels(max(self.stored.pixel_um), self.parts)

    def mask(self, config: RunConfig) -> NDArray[np.bool_]:
        """Pixels that were measured, on tissue, under the slide."""
        pixels = PixelRows.open(self.stored.url, "", min_coverage=config.min_coverage)
        pixels.need_any(self.specimen.name)
        return pixels.mask

    def slide(self) -> WorkingImage:
        """The slide at the raster's resolution or finer: a level, or whole pixels of one merged."""
        slide = open_reader(self.specimen.slide, mpp=self.specimen.mpp)
        raster = min(self.stored.pixel_um) / self.per_pixel
        sizes = [max(slide.mpp) * max(level.downsample) for level in slide.levels]
        level = max((size for size in sizes if size <= raster), default=sizes[0])
        return working(slide, level * max(1, int(raster / level)))

    def variables(self, image: WorkingImage, block: Block, parts: int) -> Floats:
        """Variables of the H&E on a block of pixels, of which `parts` make one of the MSI."""
        r, halo = self.per_pixel // parts, halo_of(self.per_pixel)
        inner = nested.times(block, r)
        wide = Block(inner.y0 - halo, inner.y1 + halo, inner.x0 - halo, inner.x1 + halo)
        rgb = slide_on_raster(image, self.stored.placing, self.per_pixel, wide)
        return slide_variables(rgb, self.per_pixel, parts)

    def measured(self, config: RunConfig) -> Measured:
        """What `inputs` wrote, and the features."""
        found = open_group(join(self.state_url, "fusion"))
        return Measured(
            self.mask(config),
            array_of(found, "ions"),
            array_of(found, "pan"),
            array_of(found, "variables"),
            self.stored.features,
        )


@dataclass(frozen=True)
class InStore:
    """`msiscale.fusion.restoring.Images` as arrays of a Zarr group, one a method."""

    group: zarr.Group

    @classmethod
    def made(
        cls, group: zarr.Group, methods: Sequence[str], shape: tuple[int, int, int], factor: int
    ) -> InStore:
        """Arrays for the methods and no others, chunked as `restore` writes them."""
        for old in set(group.array_keys()) - set(methods):
            del group[old]
        side = max(1, nested.CELL // factor) * factor
        for method in methods:
            create_array(group, method, shape, ("y", "x", "mz"), chunks=(side, side, shape[2]))
        return cls(group)

    def write(self, method: str, block: Block, values: NDArray[np.float32]) -> None:
        """Write a block.

        Parameters
        ----------
        method
            Whose image it is.
        block
            Whole chunks of pixels (y, x) of the image.
        values
            (h, w, mz) float32, of the block.
        """
        write_block(array_of(self.group, method), block, values)

    def read(self, method: str, block: Block) -> NDArray[np.float32]:
        """A block of what was written."""
        return np.asarray(array_of(self.group, method)[block.slices], np.float32)
