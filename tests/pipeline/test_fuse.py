"""`msiscale fuse` on a finished run: tables, images, what it refuses, and that it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from msiscale.errors import InputError
from msiscale.fusion import nested
from msiscale.pipeline import run as run_stages
from msiscale.pipeline.fuse import Fused, fuse
from msiscale.pipeline.verify import verify
from msiscale.simulate import simulate
from msiscale.store import Ledger

pytestmark = pytest.mark.usefixtures("shared_cluster")
CHEAP = ("bicubic", "laplacian", "ihs", "pls_residual")


@pytest.fixture(scope="module")
def run(shared_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The manifest of one specimen, and a run with all that fusing needs and nothing else."""
    folder = tmp_path_factory.mktemp("fuse")
    simulate(folder / "cohort", specimens=1, seed=1, pixels=(20, 22), mpp=4.0)
    manifest, out = str(folder / "cohort" / "manifest.csv"), folder / "run"
    choices = {"encoder": "efficientnet-lite0", "mpp": 4.0, "window": 512}
    stages = ("ingest", "register", "features")
    assert not run_stages(manifest, str(out), stages=stages, **choices).failed
    return manifest, out


@pytest.fixture(scope="module")
def fused(run: tuple[str, Path]) -> Fused:
    """All methods at one factor, and sharpened images of half the pixel."""
    manifest, out = run
    return fuse(manifest, str(out), factors=(2,), methods=(*CHEAP, "ours"), ions=4, pixel_um=60)


def test_the_table_says_who_restores_best(fused: Fused, run: tuple[str, Path]) -> None:
    table = pd.read_csv(run[1] / "fusion.csv")
    assert list(table) == ["specimen", "method", "factor", "mz", "metric", "value"]
    assert set(table["method"]) == {*CHEAP, "pls", "ours"}  # a residual brings its model along
    wide = table[table["factor"] == 2].pivot_table(
        index=["method", "mz"], columns="metric", values="value"
    )
    assert wide["correlation"].between(-1, 1).all() and (wide["rmse"] > 0).all()
    mean = wide["correlation"].groupby("method").mean()
    assert mean.min() > 0.3 and mean["pls_residual"] > mean["pls"]
    fit = table[table["factor"] == 1]
    models = fit[fit["metric"].str.startswith("reconstruction")]
    assert set(models["metric"]) == {"reconstruction_correlation", "reconstruction_r2"}
    assert set(models["method"]) == {"pls", "ours"}
    lines = fused.summary()
    assert sum(int(line.partition("best for ")[2].split()[0]) for line in lines[1:-1]) == 4
    assert all(line.endswith("of 4 images") for line in lines[1:-1])
    assert lines[0].startswith("degraded 2x") and lines[-1].endswith("fusion.csv")


def test_the_images_are_labelled_and_finer(fused: Fused, run: tuple[str, Path]) -> None:
    name = fused.table["specimen"].iloc[0]
    found = xr.open_zarr(str(run[1] / "fusion.zarr" / name), consolidated=False)
    own = xr.open_zarr(str(run[1] / "cohort.zarr" / name), consolidated=False)
    assert found["ours"].dims == ("y", "x", "mz")
    assert found.sizes["y"] == 2 * own.sizes["y"] and found.attrs["pixel_um"] == [50, 50]
    assert np.isin(found["mz"].values, own["mz"].values).all()
    coarse = nested.degrade(found["bicubic"].values, 2)
    truth = own["intensity"].sel(mz=found["mz"]).values
    assert np.isnan(found["bicubic"].values).any()  # off the tissue
    both = np.isfinite(coarse) & np.isfinite(truth)
    assert np.corrcoef(coarse[both], truth[both])[0, 1] > 0.95
    with Image.open(run[1] / "figures" / f"fusion_{name}.png") as picture:
        assert min(picture.size) > 300


def test_deep_features_of_a_pixel_are_those_of_its_parts(
    fused: Fused, run: tuple[str, Path]
) -> None:
    name = fused.table["specimen"].iloc[0]
    found = xr.open_zarr(str(run[1] / "fusion.zarr" / name), consolidated=False)
    state = xr.open_zarr(
        str(run[1] / "state.zarr" / name / "fusion" / "fit" / "ours"), consolidated=False
    )
    own = xr.open_zarr(str(run[1] / "cohort.zarr" / name), consolidated=False)
    expected = own["features"].values @ state["coef"].values.T + state["intercept"].values
    got = nested.degrade(found["ours"].values, 2)
    inside = np.isfinite(got) & (own["coverage"].values[..., None] == 1)
    np.testing.assert_allclose(got[inside], expected[inside], rtol=2e-3, atol=1e-5)


def test_images_that_are_made_consistent_keep_what_was_measured(
    fused: Fused, run: tuple[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(run[1], tmp_path / "run")
    words = {"factors": (2,), "methods": ("bicubic", "pls"), "ions": 4, "pixel_um": 60}
    found = fuse(run[0], str(tmp_path / "run"), consistent=True, **words)  # type: ignore[arg-type]
    name = found.table["specimen"].iloc[0]
    images = xr.open_zarr(str(tmp_path / "run" / "fusion.zarr" / name), consolidated=False)
    own = xr.open_zarr(str(run[1] / "cohort.zarr" / name), consolidated=False)
    truth = own["intensity"].sel(mz=images["mz"]).values
    plain = fused.table[fused.table["metric"] == "consistency_rmse"]
    for method in ("bicubic", "pls"):
        mean = nested.degrade(images[method].values, 2)
        np.testing.assert_allclose(mean, np.where(np.isfinite(mean), truth, np.nan), rtol=1e-5)
        before = plain[plain["method"] == method].groupby("factor")["value"].min()
        assert set(before.index) == {1, 2} and (before > 0.01).all()  # of what is sharpened too
    now = found.table[found.table["metric"] == "consistency_rmse"]
    assert set(now["factor"]) == {1, 2} and (now["value"] < 1e-5).all()


def test_what_is_done_is_not_done_again(fused: Fused, run: tuple[str, Path]) -> None:
    manifest, out = run
    before = (out / "fusion.csv").read_bytes()
    name = fused.table["specimen"].iloc[0]
    files = [out / "ledger" / stage / f"{name}.json" for stage in ("fusion_inputs", "fused")]
    times = [f.stat().st_mtime_ns for f in files]
    Ledger(str(out)).forget("fuse", [name])  # as if it had been killed there
    words = {"factors": (2,), "methods": (*CHEAP, "ours"), "ions": "4", "pixel_um": 60}
    fuse(manifest, str(out), **words)
    assert [f.stat().st_mtime_ns for f in files] == times
    assert (out / "fusion.csv").read_bytes() == before  # the same numbers again
    assert not verify(str(out)).damages


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"factors": (1,)}, "--factors 1"),
        ({"factors": (2.5,)}, "--factors 2.5"),
        ({"methods": ("magic",)}, "--methods magic"),
        ({"ions": "0"}, "--ions 0"),
        ({"ions": "many"}, "--ions many"),
        ({"ions": "12.5,700.1"}, "not on the axis"),
        ({"pixel_um": -1}, "--pixel-um -1"),
        ({"pixel_um": 0.1}, "give 3.125 or more"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    run: tuple[str, Path], words: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        fuse(run[0], str(run[1]), **{"ions": (703.5746,), **words})  # type: ignore[arg-type]
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_stage_is_named(run: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run there"):
        fuse(run[0], str(tmp_path / "nowhere"))
    shutil.copytree(run[1], tmp_path / "run")
    Ledger(str(tmp_path / "run")).forget("features", pd.read_csv(run[0])["specimen"])
    with pytest.raises(InputError, match="stage features is not done; run msiscale features"):
        fuse(run[0], str(tmp_path / "run"))
