"""Virtual ion images of any m/z, from stored scores: the cube is never written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import blocks
from msiscale.prediction.model import columns_of, spectra
from msiscale.store import (
    create_array,
    has_group,
    join,
    listing,
    open_group,
    put,
    read,
    write_bytes,
)
from msiscale.store import write_block as write

AT_ONCE = 16  # ion images in a picture
SIDE = 1200  # pixels of an ion image in a picture, at most


def predicted_intensity(url: str, mz: float | Sequence[float]) -> xr.DataArray:
    """Predicted ion images of a slide or specimen, computed from its scores when asked for.

    Parameters
    ----------
    url
        ``predictions.zarr/<name>`` of `msiscale predict`, or of a run (then out of fold);
        ``predictions.zarr``, or the folder that holds it, where there is one name only.
    mz
        Within 20 ppm of an m/z of the model's axis.

    Returns
    -------
    xr.DataArray
        (y, x, mz) float32, Dask-backed, one chunk a shard of the scores; in units of the
        normalised intensities of the training, not below 0, NaN where nothing was predicted.
        Coordinates y, x in µm, and the axis' own mz.

    Raises
    ------
    InputError
        No such prediction, or an m/z that the model does not predict.

    Examples
    --------
    >>> import msiscale as ms
    >>> image = ms.predicted_intensity("results/predictions.zarr/S01", 788.6164)
    >>> image.dims, image.sizes["mz"]  # nothing is computed yet
    (('y', 'x', 'mz'), 1)
    """
    return _intensity(_group(url), [mz] if isinstance(mz, int | float) else list(mz))


def write_ion_images(url: str, mz: Sequence[float], out: str) -> None:
    """Predicted ion images as a picture (``.png``) or as arrays (``.zarr``).

    Parameters
    ----------
    url, mz
        As for `predicted_intensity`.
    out
        ``FILE.png``: a panel an m/z, of pixels skipped to 1200 on the longer side; or
        ``FILE.zarr``: ``predicted_intensity`` (y, x, mz), written shard by shard.

    Raises
    ------
    InputError
        As `predicted_intensity`; another suffix; too many m/z for a picture.
    """
    group = _group(url)
    images = _intensity(group, list(mz))
    if out.endswith(".zarr"):
        _write_zarr(group, images, out)
    elif out.endswith(".png"):
        if len(mz) > AT_ONCE:
            raise InputError(f"{out}: {len(mz)} ion images in a picture; give {AT_ONCE} at most")
        write_bytes(out, _picture(group, images))
    else:
        raise InputError(f"{out}: neither .png nor .zarr; name one of these")


def _group(url: str) -> zarr.Group:
    """The group of the one slide or specimen that a URL means."""
    if not has_group(url) and has_group(join(url, "predictions.zarr")):
        url = join(url, "predictions.zarr")
    group = open_group(url)
    if "predicted_scores" in group:
        return group
    names = sorted(n for n in listing(url) if has_group(join(url, n)))
    if len(names) != 1:
        found = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise InputError(f"{url}: give the slide, {url}/NAME; there are {found or 'none'}")
    group = open_group(join(url, names[0]))
    if "predicted_scores" not in group:
        raise InputError(f"{url}/{names[0]}: no predicted_scores there; predict the slide again")
    return group


def _intensity(group: zarr.Group, mz: Sequence[float]) -> xr.DataArray:
    import dask.array as da

    # a slide's own `mz` are the few that were written; the model's are beside them
    axis = "mz_axis" if "mz_axis" in group else "mz"
    mean, components = read(group, "mean"), read(group, "components")
    columns = columns_of(read(group, axis), mean, components, mz)
    array: Any = group["predicted_scores"]
    unit = array.shards or array.chunks
    scores = da.from_array(array, chunks=(*unit[:2], array.shape[2]), name=False)
    task = partial(spectra, mean=mean[columns], spectrum=components[:, columns])
    images = scores.map_blocks(
        task, dtype=np.float32, chunks=(*scores.chunks[:2], (len(columns),)), meta=np.empty(0)
    )
    return xr.DataArray(
        images,
        dims=("y", "x", "mz"),
        coords={"y": read(group, "y"), "x": read(group, "x"), "mz": read(group, axis)[columns]},
        name="predicted_intensity",
    )


def _write_zarr(group: zarr.Group, images: xr.DataArray, out: str) -> None:
    target = open_group(out, "a")
    shape, n = images.shape[:2], images.shape[2]
    size = max(images.data.chunks[0][0], images.data.chunks[1][0])
    array = create_array(
        target,
        "predicted_intensity",
        images.shape,
        images.dims,  # type: ignore[arg-type]
        chunks=(size, size, 1),
        shards=(size, size, n),
    )
    for name, units in (("y", "µm"), ("x", "µm"), ("mz", "m/z")):
        put(target, name, images[name].values, (name,), attrs={"units": units})
    for block in blocks((shape[0], shape[1]), (size, size)):
        write(array, block, images[block.slices].compute().values)
    target.attrs.update({k: group.attrs[k] for k in ("matrix", "slide") if k in group.attrs})


def _picture(group: zarr.Group, images: xr.DataArray) -> bytes:
    # matplotlib, which nothing else here needs
    from msiscale.report.drawing import draw_map, extent_um, panels, plain, png, side_bar, spread

    pixel = [float(c[1] - c[0]) if len(c) > 1 else 1.0 for c in (images.y, images.x)]
    step = max(1, -(-max(images.shape[:2]) // SIDE))
    values: NDArray[np.float32] = images[::step, ::step].compute().values
    known = np.isfinite(values[..., 0])
    sizes = (pixel[0] * step, pixel[1] * step)
    figure, axes = panels(len(images.mz), values.shape[:2], sizes)
    for i, panel in enumerate(axes):
        image = draw_map(
            panel,
            values[..., i],
            known,
            extent_um(values.shape[:2], sizes),
            cmap="viridis",
            limits=spread(values[..., i]),
        )
        side_bar(panel, image)
        panel.set_title(f"predicted m/z {float(images.mz[i]):.4f}", fontsize=9)
    name = str(group.store_path).rstrip("/").rpartition("/")[2]
    figure.suptitle(f"{plain(name)}: intensity, as scaled in the training", fontsize=10)
    return png(figure)
