"""What anndata, spatialdata and the OME-Zarr tools themselves read, in an environment of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exported import build, in_other

pytestmark = pytest.mark.slow(reason="the environment of the other tools takes minutes to make")

ANNDATA = """
import json, sys, tracemalloc
import anndata as ad, numpy as np
import msiscale as ms
from anndata.experimental import concat_on_disk
from msiscale.export import export
from msiscale.export.source import open_run
from msiscale.store import open_group, read
run, out, *sizes = sys.argv[1:]
done = export(run, out, "anndata")
s = open_run(run, ["A"]).sources[0]
a = ad.read_h5ad(f"{out}/A.h5ad")
y, x = a.obs["y"].to_numpy(), a.obs["x"].to_numpy()
cube = s.measurements.read("intensity")
assert a.shape == (s.measured.sum(), 5) and a.X.dtype == np.float32
np.testing.assert_array_equal(a.X, cube[y, x])
np.testing.assert_array_equal(a.obs["cancer_from_he"], s.predicted.read("cancer_from_he")[y, x])
np.testing.assert_array_equal(a.var["mz"], s.mz)
assert a.var_names.is_unique and a.obs_names.is_unique
assert a.obs_names[0] == f"A_{y[0]}_{x[0]}" and set(a.obs["patient"]) == {"P1"}
np.testing.assert_allclose(a.obsm["spatial"], np.column_stack([(x + .5) * 40, (y + .5) * 50]))
model = open_group(f"{run}/model.zarr")
scores = (cube[y, x] - read(model, "pca_mean")) @ read(model, "pca_components").T
np.testing.assert_allclose(a.obsm["X_pca"], scores, rtol=1e-4, atol=1e-4)
assert a.varm["PCs"].shape == (5, 2) and a.uns["msiscale"]["polarity"] == "-"
backed = ad.read_h5ad(f"{out}/A.h5ad", backed="r")
np.testing.assert_array_equal(backed.X[7:9], a.X[7:9])
backed.file.close()
concat_on_disk([f"{out}/A.h5ad", f"{out}/B.h5ad"], f"{out}/all.h5ad")
both = ad.read_h5ad(f"{out}/all.h5ad")
assert both.n_obs == 2 * a.n_obs and both.obs_names.is_unique
back = ms.open_msi(f"{out}/A.h5ad")  # and by ourselves
np.testing.assert_array_equal(back["intensity"].values[y, x], a.X)
peaks = []
for i, larger in enumerate(sizes):
    tracemalloc.start()
    export(larger, f"{out}/{i}", "anndata")
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
print(json.dumps({"written": done.written, "peaks": peaks}))
"""

SPATIALDATA = """
import json, sys
import numpy as np, spatialdata as sd
from spatialdata.transformations import get_transformation
from msiscale.errors import InputError
from msiscale.export import export
from msiscale.export.source import open_run
from msiscale.grid import apply
run, out = sys.argv[1:]
(run_out,) = export(run, out, "spatialdata", mz=[600.2]).written
export(run, out, "spatialdata", mz=[600.2], specimens=["A"])  # again, over it
try:
    export(run, run + "/cohort.zarr", "spatialdata")
    raise SystemExit("written over the run")
except InputError as error:
    assert "something else" in str(error)
data = sd.read_zarr(out)
source = open_run(run, ["A"]).sources[0]
assert data.coordinate_systems == ["A"], data.coordinate_systems
np.testing.assert_array_equal(
    np.asarray(data["A_cancer"].sel(c="cancer_from_he")), source.predicted.read("cancer_from_he"))
np.testing.assert_array_equal(
    np.asarray(data["A_ions"].sel(c="600.2000")), source.measurements.read("intensity")[..., 1])
assert data["A_he"].shape == (3, 140, 170)
affine = get_transformation(data["A_cancer"], "A").to_affine_matrix(("x", "y"), ("x", "y"))
index = np.array([[0, 0], [84, 69], [30, 20]])
np.testing.assert_allclose(apply(affine, index + .5), apply(source.matrix, index) * 2.0)
fine = get_transformation(data["A_he"], "A").to_affine_matrix(("x", "y"), ("x", "y"))
np.testing.assert_allclose(apply(fine, 2 * (index + .5)), apply(affine, index + .5))
table = data["A_spectra"]
labels = np.asarray(data["A_pixels"])
y, x = table.obs["y"].to_numpy(), table.obs["x"].to_numpy()
np.testing.assert_array_equal(labels[y, x], table.obs["instance_id"])
np.testing.assert_array_equal(np.asarray(table.X), source.measurements.read("intensity")[y, x])
# annotation and regions lie in the same world as the maps: the painted pixels and no other
shape = sd.transform(data["A_annotation"], to_coordinate_system="A").geometry.iloc[0]
grown = sd.transform(data["A_regions"], to_coordinate_system="A").geometry.iloc[0]
import shapely
centres = apply(source.to_um, np.column_stack([x, y]))
inside = shapely.contains_xy(shape.buffer(5), *centres.T)
np.testing.assert_array_equal(inside, source.measurements.read("cancer")[y, x] == 1)
assert grown.equals_exact(shape, 1e-6)
element, joined = sd.join_spatialelement_table(
    sdata=data, spatial_element_names="A_pixels", table_name="A_spectra", how="left")
assert joined.n_obs == table.n_obs
print(json.dumps(sorted(name for _, name, _ in data.gen_elements())))
"""

OME = """
import json, sys
import numpy as np, zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.image import Image
from msiscale.export import export
found = {}
for url in export(sys.argv[1], sys.argv[2], "ome-zarr", specimens=["A"]).written:
    image = Image.from_zarr(zarr.open_group(url, mode="r"))  # raises where the metadata are wrong
    (node, *_) = list(Reader(parse_url(url))())
    assert len(node.data) == len(image.ome_attributes.multiscales[0].datasets)
    scale = node.metadata["coordinateTransformations"][0][0]["scale"]
    first = np.asarray(node.data[0][..., 100:110, 100:110])
    np.testing.assert_array_equal(first, zarr.open_group(url, mode="r")["0"][..., 100:110, 100:110])
    found[url.rsplit("/", 1)[1]] = [list(node.data[0].shape), scale, node.metadata["channel_names"]]
print(json.dumps(found))
"""


def test_anndata_reads_what_was_written(other_python: str, run: str, tmp_path: Path) -> None:
    runs, mz = [], np.linspace(400, 900, 300)
    for side in (128, 192):
        runs.append(str(tmp_path / str(side) / "run"))
        build(runs[-1], (side, side), mz, "A")
    said = json.loads(in_other(other_python, ANNDATA, run, str(tmp_path / "out"), *runs))
    assert said["written"] == [f"{tmp_path}/out/A.h5ad", f"{tmp_path}/out/B.h5ad"]
    small, large = said["peaks"]
    # a row of obs a pixel, of which the spectra would be 1200 bytes
    assert large - small < 300 * (192**2 - 128**2)


def test_spatialdata_reads_what_was_written(other_python: str, run: str, tmp_path: Path) -> None:
    out = str(tmp_path / "cohort.sdata.zarr")
    names = json.loads(in_other(other_python, SPATIALDATA, run, out))
    kinds = ("annotation", "cancer", "he", "ions", "pixels", "predicted_ions", "regions", "spectra")
    assert names == [f"A_{kind}" for kind in kinds]


def test_ome_zarr_tools_accept_the_images(other_python: str, run: str, tmp_path: Path) -> None:
    found = json.loads(in_other(other_python, OME, run, str(tmp_path)))
    assert found["cancer.ome.zarr"][1:] == [
        [1.0, 10.0, 10.0],
        ["annotated", "cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"],
    ]
    assert found["ions.ome.zarr"][2] == ["800.5000", "700.3000"]
    assert found["slide.ome.zarr"][1] == [1.0, 2.0, 2.0]


def test_spatialdata_without_the_slides(other_python: str, tmp_path: Path) -> None:
    """Predicted outlines do not need them; annotations go without a word."""
    run = str(tmp_path / "moved" / "run")
    build(run, names="A")
    (tmp_path / "moved" / "A.png").unlink()
    program = (
        "import sys, json, spatialdata; from msiscale.export import export\n"
        "(url,) = export(sys.argv[1], sys.argv[2], 'spatialdata').written\n"
        "print(json.dumps(sorted(spatialdata.read_zarr(url).shapes)))"
    )
    out = str(tmp_path / "x.zarr")
    assert json.loads(in_other(other_python, program, run, out)) == ["A_regions"]


@pytest.mark.parametrize("out", ["s3://lab/x.zarr", "folder"])
def test_spatialdata_needs_a_local_zarr(other_python: str, run: str, out: str) -> None:
    program = (
        "import sys; from msiscale.export import export; from msiscale.errors import InputError\n"
        "try: export(sys.argv[1], sys.argv[2], 'spatialdata')\n"
        "except InputError as error: print(error)"
    )
    assert "name it SOMETHING.zarr" in in_other(other_python, program, run, out)
