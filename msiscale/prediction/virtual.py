"""Virtual ion images of any m/z, from stored scores: the cube is never written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import blocks
from msiscale.models.margins import local_scale
from msiscale.prediction.model import bound_names, columns_of, spectra
from msiscale.prediction.tiers import READ, Tiers, tiers_of
from msiscale.store import (
    create_array,
    has_group,
    join,
    listing,
    nearest_column,
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
    return _intensity(opened(url)[0], [mz] if isinstance(mz, int | float) else list(mz))


def predicted_bounds(url: str, mz: float | Sequence[float]) -> tuple[xr.DataArray, xr.DataArray]:
    """Between which intensities 90 % of the pixels of a new patient lie.

    Parameters
    ----------
    url, mz
        As for `predicted_intensity`.

    Returns
    -------
    lower, upper : xarray.DataArray
        (y, x, mz) float32, Dask-backed, as of `predicted_intensity`.

    Raises
    ------
    InputError
        As `predicted_intensity`; the model has no margins.
    """
    group, place = opened(url)
    margin = _kept(group, place, "intensity_margin", "intensity")
    if margin is None:
        raise InputError(f"{place}: its model has no margins; fit it with two or more patients")
    images = predicted_intensity(place, mz)
    return _bounds(group, images, margin)


def write_ion_images(url: str, mz: Sequence[float] | None, out: str) -> list[str]:
    """Predicted ion images as a picture (``.png``) or as arrays (``.zarr``), with their bounds.

    Parameters
    ----------
    url
        As for `predicted_intensity`.
    mz
        As for `predicted_intensity`. None for up to 16 ions of the tiers A and B, those that are
        read best first; an ion of tier C is only drawn when its m/z is given.
    out
        ``FILE.png``: a panel an m/z, of pixels skipped to 1200 on the longer side, and one of each
        bound where they are known; or ``FILE.zarr``: ``predicted_intensity`` (y, x, mz) and
        ``…_lower``, ``…_upper``, written shard by shard.

    Returns
    -------
    list of str
        What a user should know of these ions, a line each.

    Raises
    ------
    InputError
        As `predicted_intensity`; another suffix; too many m/z for a picture; none given, and none
        can be read or no tiers are known.
    """
    if not out.endswith((".zarr", ".png")):
        raise InputError(f"{out}: the name ends in neither .png nor .zarr; give one that does")
    group, place = opened(url)
    axis = model_axis(group)
    tiers = known_tiers(group, place)
    said = []
    if mz is None:
        mz, lines = _best(tiers, axis, place)
        said += lines
    if out.endswith(".png") and len(mz) > AT_ONCE:
        raise InputError(
            f"{out}: {len(mz)} ion images do not fit one picture; give {AT_ONCE} at most"
        )
    images = _intensity(group, list(mz))
    called = ["" for _ in mz]
    if tiers is not None:
        called = [str(tiers.tier[nearest_column(axis, value)]) for value in mz]
    for value, tier in zip(mz, called, strict=True):
        if tier == "C":
            said.append(f"m/z {value:g} is of tier C: H&E did not predict it in held-out patients")
    margin = _kept(group, place, "intensity_margin", "intensity")
    maps = {"predicted_intensity": images}
    if margin is None:
        said.append("there are no bounds: the model has no margins from held-out patients")
    else:
        both = _bounds(group, images, margin)
        maps |= dict(zip(bound_names("predicted_intensity"), both, strict=True))
    if out.endswith(".zarr"):
        _write_zarr(group, maps, out)
    else:
        write_bytes(out, _picture(group, maps, called))
    return said


def _best(
    tiers: Tiers | None, axis: NDArray[np.float64], place: str
) -> tuple[list[float], list[str]]:
    if tiers is None:
        raise InputError(f"{place}: its ions have no tiers; choose ions with --mz")
    best = tiers.best(AT_ONCE)
    if not best:
        raise InputError(f"{place}: no ion is of tier A or B; choose ions with --mz")
    n = int((tiers.tier == "C").sum())
    read_from = int(np.isin(tiers.tier, READ).sum())
    line = f"{len(best)} of {read_from} ions of tiers A and B; --mz draws the {n} of tier C"
    return axis[best].tolist(), [line]


def known_tiers(group: zarr.Group, place: str) -> Tiers | None:
    """Of a slide as `predict` kept them, of a specimen as the run has them."""
    if "tier" in group:
        tier = np.array(read(group, "tier").tolist(), str)
        kept = "identification" in group  # a prediction of an older version has no names
        name = np.array(read(group, "identification").tolist(), str) if kept else tier[:0]
        return Tiers(tier, read(group, "tier_pearson"), name)
    return None if "mz_axis" in group else tiers_of(_run_of(place), model_axis(group))


def model_axis(group: zarr.Group) -> NDArray[np.float64]:
    """(mz,) of the model; a slide's own ``mz`` are the few that were written."""
    return read(group, "mz_axis" if "mz_axis" in group else "mz").astype(np.float64)


def _kept(group: zarr.Group, place: str, name: str, margin: str) -> NDArray[np.float32] | None:
    """A margin of a slide as `predict` kept it, of a specimen as the model of its run has it."""
    if name in group:
        return read(group, name)
    url = join(_run_of(place), "model.zarr", "margins")
    if "mz_axis" in group or not has_group(url):
        return None
    return read(open_group(url), margin)


def _run_of(place: str) -> str:
    return place.rpartition("/predictions.zarr")[0]


def _bounds(
    group: zarr.Group, images: xr.DataArray, margin: NDArray[np.float32]
) -> tuple[xr.DataArray, xr.DataArray]:
    import dask.array as da

    axis = model_axis(group)
    width = margin[[nearest_column(axis, float(value)) for value in images.mz]]
    array: Any = group["feature_distance"]
    distance = da.from_array(array, chunks=images.data.chunks[:2], name=False)
    wide = distance.map_blocks(local_scale, dtype=np.float32)[..., None] * width
    lower = da.maximum(images.data - wide, np.float32(0))
    names = bound_names("predicted_intensity")
    both = zip(names, (lower, images.data + wide), strict=True)
    found = [images.copy(data=values.astype(np.float32)).rename(name) for name, values in both]
    return found[0], found[1]


def opened(url: str) -> tuple[zarr.Group, str]:
    """The group of the one slide or specimen that a URL means, and its own URL."""
    if not has_group(url) and has_group(join(url, "predictions.zarr")):
        url = join(url, "predictions.zarr")
    group = open_group(url)
    if "predicted_scores" in group:
        return group, url.rstrip("/")
    names = sorted(n for n in listing(url) if has_group(join(url, n)))
    if len(names) != 1:
        found = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise InputError(
            f"{url}: it holds no single slide; give {url}/NAME, one of: {found or 'none'}"
        )
    group = open_group(join(url, names[0]))
    if "predicted_scores" not in group:
        raise InputError(f"{url}/{names[0]}: it has no predicted_scores; predict the slide again")
    return group, join(url, names[0])


def _intensity(group: zarr.Group, mz: Sequence[float]) -> xr.DataArray:
    import dask.array as da

    axis = model_axis(group)
    mean, components = read(group, "mean"), read(group, "components")
    columns = columns_of(axis, mean, components, mz)
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
        coords={"y": read(group, "y"), "x": read(group, "x"), "mz": axis[columns]},
        name="predicted_intensity",
    )


def _write_zarr(group: zarr.Group, maps: Mapping[str, xr.DataArray], out: str) -> None:
    target, images = open_group(out, "a"), maps["predicted_intensity"]
    shape, n = images.shape[:2], images.shape[2]
    size = max(images.data.chunks[0][0], images.data.chunks[1][0])
    for name in set(bound_names("predicted_intensity")) - set(maps):  # of another prediction
        if name in target:
            del target[name]
    for name, values in maps.items():
        array = create_array(
            target,
            name,
            images.shape,
            images.dims,  # type: ignore[arg-type]
            chunks=(size, size, 1),
            shards=(size, size, n),
        )
        for block in blocks((shape[0], shape[1]), (size, size)):
            write(array, block, values[block.slices].compute().values)
    for name, units in (("y", "µm"), ("x", "µm"), ("mz", "m/z")):
        put(target, name, images[name].values, (name,), attrs={"units": units})
    target.attrs.update({k: group.attrs[k] for k in ("matrix", "slide") if k in group.attrs})


def _picture(group: zarr.Group, maps: Mapping[str, xr.DataArray], tiers: Sequence[str]) -> bytes:
    # matplotlib, which nothing else here needs
    from msiscale.report.drawing import draw_map, extent_um, panels, plain, png, side_bar, spread

    images = maps["predicted_intensity"]
    pixel = [float(c[1] - c[0]) if len(c) > 1 else 1.0 for c in (images.y, images.x)]
    step = max(1, -(-max(images.shape[:2]) // SIDE))
    values = {name: of[::step, ::step].compute().values for name, of in maps.items()}
    central = values["predicted_intensity"]
    known = np.isfinite(central[..., 0])
    sizes = (pixel[0] * step, pixel[1] * step)
    words = dict(zip(bound_names("predicted_intensity"), ("lower", "upper"), strict=True))
    figure, axes = panels(len(images.mz) * len(maps), central.shape[:2], sizes)
    for i, panel in enumerate(axes):
        ion, which = divmod(i, len(maps))
        name = list(maps)[which]
        image = draw_map(
            panel,
            values[name][..., ion],
            known,
            extent_um(central.shape[:2], sizes),
            cmap="viridis",
            limits=spread(central[..., ion]),  # the bounds on the scale of what is predicted
        )
        side_bar(panel, image)
        tier = f", tier {tiers[ion]}" if tiers[ion] else ""
        title = f"predicted m/z {float(images.mz[ion]):.4f}{tier}"
        panel.set_title(f"{words[name]} bound" if name in words else title, fontsize=9)
    name = str(group.store_path).rstrip("/").rpartition("/")[2]
    figure.suptitle(f"{plain(name)}: intensity, as scaled in the training", fontsize=10)
    return png(figure)
