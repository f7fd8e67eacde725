"""What is fuzzed: whole files of every kind, and what must hold of whatever is read of them.

A reader either gives what the file says, which is then sound in itself, or raises `InputError`: one
line that names the file. Everything else is a crash.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]  #: of one input, by name


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes
    ----------
    seeds : whole inputs; the first file of each is the one that is damaged most
    read : reads the input in a folder; raises InputError, or anything else for a fault
    """

    seeds: Callable[[], list[Files]]
    read: Callable[[Path, str], None]


def _imzml_seeds() -> list[Files]:
    from pyimzml.compression import ZlibCompression
    from pyimzml.ImzMLWriter import ImzMLWriter

    rng = np.random.default_rng(0)
    zlib = {"mz_compression": ZlibCompression(), "intensity_compression": ZlibCompression()}
    seeds = []
    for options in ({"mode": "processed"}, {"mode": "continuous"}, {"mode": "processed", **zlib}):
        with tempfile.TemporaryDirectory() as folder:
            axis = np.linspace(100, 200, 7)
            with ImzMLWriter(f"{folder}/a", polarity="positive", **options) as writer:
                for y, x in np.ndindex(2, 3):
                    n = 7 if options["mode"] == "continuous" else int(rng.integers(1, 7))
                    writer.addSpectrum(axis[:n], rng.random(n).astype(np.float32), (x + 1, y + 1))
            seeds.append({n: Path(folder, n).read_bytes() for n in ("a.imzML", "a.ibd")})
    return seeds


def sound_spectra(source: Any) -> None:
    """What holds of every image that is read, whatever its file."""
    from msiscale.msi.source import batches

    at = source.positions
    assert len(at) > 0 and (at >= 0).all() and (at < source.shape).all()
    assert len(np.unique(at, axis=0)) == len(at), "two spectra on a pixel"
    assert source.pixel_um is None or all(0 < v < np.inf for v in source.pixel_um)
    for part in batches(source, np.arange(len(at))):
        spectra = source.read(part)
        assert np.array_equal(spectra.lengths, source.lengths[part])
        assert np.isfinite(spectra.mz).all() and np.isfinite(spectra.intensity).all()
        assert (spectra.intensity >= 0).all()
        for mz, _ in spectra:
            assert (np.diff(mz) >= 0).all(), "m/z descend"


def _read_imzml(folder: Path, name: str) -> None:
    from msiscale.msi import open_source

    sound_spectra(open_source(str(folder / name)))


def _read_spectrum_list(folder: Path, name: str) -> None:
    """The regular expressions read what expat reads, or leave it to expat."""
    from msiscale.errors import InputError
    from msiscale.msi import spectrum_list
    from msiscale.msi.header import read_header

    def header() -> Any:
        try:
            return read_header(str(folder / name))
        except InputError as error:
            return error

    fast, most = header(), spectrum_list._TEMPLATES
    spectrum_list._TEMPLATES = 0
    try:
        slow = header()
    finally:
        spectrum_list._TEMPLATES = most
    if isinstance(slow, InputError):
        assert isinstance(fast, InputError), f"read although {slow}"
        raise slow
    if isinstance(fast, InputError):
        raise AssertionError(f"expat reads what is refused: {fast}")
    for a, b in ((fast.xyz, slow.xyz), (fast.mz, slow.mz), (fast.intensity, slow.intensity)):
        for field in ("offset", "length", "encoded") if a is not fast.xyz else ("data",):
            x, y = (np.asarray(getattr(v, field)) for v in (a, b))
            assert np.array_equal(x, y), f"{field} differs from expat's"


def _hdf5_seeds() -> list[Files]:
    from msiscale.msi import write_hdf5

    rng = np.random.default_rng(0)
    values = rng.random((6, 5)).astype(np.float32)
    yx = np.argwhere(np.ones((2, 3)))
    with tempfile.TemporaryDirectory() as folder:
        write_hdf5(f"{folder}/a.h5", np.linspace(1, 9, 5), yx[:, ::-1], values, pixel_um=50.0)
        return [{"a.h5": Path(folder, "a.h5").read_bytes()}]


def _geojson_seeds() -> list[Files]:
    ring = [[5, 5], [25, 5], [25, 25], [5, 25], [5, 5]]
    hole = [[10, 10], [12, 10], [12, 12], [10, 12], [10, 10]]
    shapes = [
        {"type": "Polygon", "coordinates": [ring, hole]},
        {"type": "MultiPolygon", "coordinates": [[ring], [hole]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [ring]}]},
        {"type": "LineString", "coordinates": ring},
    ]
    properties = {"objectType": "annotation", "classification": {"names": ["Tumor", "x"]}}
    features = [{"type": "Feature", "geometry": g, "properties": properties} for g in shapes]
    path = [{"x": x, "y": y} for x, y in ring]
    darwin = {"item": {}, "annotations": [{"name": "tumor", "polygon": {"paths": [path, path]}}]}
    documents = [{"type": "FeatureCollection", "features": features}, features, darwin]
    return [{"a.geojson": json.dumps(document).encode()} for document in documents]


def _xml_seeds() -> list[Files]:
    def points(tag: str, extra: str = "") -> str:
        places = ((5, 5), (25, 5), (25, 25), (5, 25))
        return "".join(f'<{tag}{extra} X="{x}" Y="{y}"/>\n' for x, y in places)

    scope = f"""<?xml version="1.0"?><Annotations MicronsPerPixel="0.25"><Annotation Name="Tumor">
<Regions><Region Type="0" NegativeROA="0"><Vertices>{points("Vertex")}</Vertices></Region>
<Region Type="2" Text="a"><Vertices><Vertex X="1" Y="2"/><Vertex X="8" Y="9"/></Vertices></Region>
<Region Type="1" NegativeROA="1"><Vertices>{points("Vertex")}</Vertices></Region></Regions>
</Annotation></Annotations>"""
    asap = f"""<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="a"
Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points("Coordinate", ' Order="1"')}</Coordinates>
</Annotation></Annotations></ASAP_Annotations>"""
    return [{"a.xml": scope.encode()}, {"a.xml": asap.encode()}]


def _read_annotation(folder: Path, name: str) -> None:
    from msiscale.grid import scaling
    from msiscale.slide.annotations import label_fraction, read_annotation

    regions = read_annotation(folder / name, (50, 50), offset=(1.0, 2.0))
    assert all(r.polygon.is_valid and np.isfinite(r.polygon.area) for r in regions)
    share = label_fraction(regions, scaling(5.0), (10, 10), cancer=["*"])
    assert share.shape == (10, 10) and not (share < 0).any() and not (share > 1).any()
    # nothing is excluded: all is unknown where nothing counts, and nothing where all have a class
    if not regions:
        assert np.isnan(share).all()
    elif all(r.name for r in regions):
        assert not np.isnan(share).any()


def _manifest_seeds() -> list[Files]:
    import pandas as pd

    header = "specimen,msi,slide,patient,annotation,landmarks,mpp,pixel_um\n"
    text = header + "a,a.imzML,a.tiff,P1,a.geojson,a.csv,0.5,50\nb,b.imzML,/b.tiff,P2,,,,\n"
    files = {"a.imzML": b"", "a.tiff": b"", "a.geojson": b"", "a.csv": b""}
    parquet = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(parquet)
    bom = "\ufeff" + text.replace("\n", "\r\n")
    return [
        {"m.csv": text.encode(), **files},
        {"m.csv": bom.encode(), **files},
        {"m.parquet": parquet.getvalue(), **files},
    ]


def _read_manifest(folder: Path, name: str) -> None:
    from msiscale.cohort import read_manifest

    cohort = read_manifest(str(folder / name))
    names = [s.name for s in cohort]
    assert len(set(names)) == len(names) and not set(names) & set(cohort.problems)
    assert names or cohort.problems
    for s in cohort:
        assert s.mpp is None or 0 < s.mpp < np.inf
        assert s.name not in ("", ".", "..") and not set(s.name) & set('/\\<>"& ')
    assert all("\n" not in line for line in cohort.problems.values())


def _tiff_seeds() -> list[Files]:
    import tifffile

    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    aperio = "Aperio Image Library v1\r\n48x64|AppMag = 20|MPP = 0.5"
    jpeg = {"tile": (16, 16), "compression": "jpeg"}
    many: list[dict[str, Any]] = [
        {"tile": (16, 16), "compression": "deflate"},
        {**jpeg, "description": aperio, "metadata": None},
        {"rowsperstrip": 7, "resolution": (20000, 20000), "resolutionunit": 3},
        {**jpeg, "ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}},
        {"tile": (16, 16), "bigtiff": True, "compression": "jpeg2000"},
    ]
    seeds = []
    for options in many:
        out = io.BytesIO()
        ome = options.pop("ome", False)
        with tifffile.TiffWriter(out, bigtiff=options.pop("bigtiff", False), ome=ome) as tiff:
            tiff.write(picture, photometric="rgb", subifds=1, **options)
            tiff.write(picture[::2, ::2].copy(), photometric="rgb", subfiletype=1, tile=(16, 16))
        seeds.append({"a.svs" if "description" in options else "a.tiff": out.getvalue()})
    return seeds


def _read_slide(folder: Path, name: str) -> None:
    from msiscale.slide.reader import check, open_reader

    slide = open_reader(folder / name, mpp=0.5)
    check(slide)
    height, width = slide.shape
    for index in range(len(slide.levels)):
        pixels = slide.read(index, 0, 0, 40, 40)
        assert pixels.shape == (40, 40, 3) and pixels.dtype == np.uint8
    assert (slide.read(0, height, width, 2, 2) == 255).all()


def _picture_seeds() -> list[Files]:
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    seeds = []
    for kind, name in (("PNG", "a.png"), ("JPEG", "a.jpg")):
        out = io.BytesIO()
        Image.fromarray(picture[..., : 4 if kind == "PNG" else 3]).save(out, kind, dpi=(100, 100))
        seeds.append({name: out.getvalue()})
    return seeds


def _landmark_seeds() -> list[Files]:
    text = (
        "slide_x,slide_y,msi_x,msi_y\n0,0,0,0\n100,0,10,0\n0,100,0,10\n100,100,10,10\n50,20,5,2\n"
    )
    return [{"a.csv": text.encode()}, {"a.csv": text.replace("\n", "\r\n").encode("utf-8-sig")}]


def _read_landmarks(folder: Path, name: str) -> None:
    from msiscale.grid import PixelSize
    from msiscale.registration import fit_landmarks, read_landmarks

    slide, msi = read_landmarks(str(folder / name))
    assert slide.shape == msi.shape and slide.shape[1:] == (2,)
    source = str(folder / name)
    mpp, pixel_um = PixelSize.of(0.5), PixelSize.of(50)
    found = fit_landmarks(slide, msi, mpp=mpp, pixel_um=pixel_um, source=source)
    _sound_matrix(found.matrix)


def _sound_matrix(matrix: Any) -> None:
    assert matrix.shape == (3, 3) and np.isfinite(matrix).all() and np.linalg.det(matrix) != 0


def _matrix_seeds() -> list[Files]:
    rows = [[10.0, 0.5, 3], [-0.5, 10, 2e2], [0, 0, 1]]
    return [{"a.json": json.dumps(d).encode()} for d in (rows, {"matrix": rows})]


def _read_matrix(folder: Path, name: str) -> None:
    from msiscale.registration import read_matrix

    _sound_matrix(read_matrix(str(folder / name)).matrix)


def _lipid_seeds() -> list[Files]:
    text = "LM_ID\tNAME\tFORMULA\nLMGP01010001\tPC(16:0/18:1)\tC42H82NO8P\nX\tmy lipid\tC10H20O2\n"
    sdf = "\n\n  0  0\nM  END\n> <LM_ID>\nLMFA01\n\n> <FORMULA>\nC16H32O2\n\n$$$$\n"
    tables = {"a.tsv": text.encode(), "a.csv": text.replace("\t", ",").encode()}
    tables |= {"a.sdf": sdf.encode() * 2, "a.csv.gz": gzip.compress(text.encode(), mtime=0)}
    return [{name: data} for name, data in tables.items()]


def _read_lipids(folder: Path, name: str) -> None:
    from msiscale.biomarkers import read_lipids

    table = read_lipids(str(folder / name))
    assert len(table) and (table["mass"] > 0).all() and np.isfinite(table["mass"]).all()
    assert (table["n_structures"] >= 1).all() and table["formula"].map(bool).all()


def _config_seeds() -> list[Files]:
    text = """normalise = "reference"
reference_mz = [281.2, 760.6]
tolerance_ppm = 5
min_frequency = 0.01
mpp = 0.5
alphas = [0.1, 1.0]
costs = [1e-3, 1]
window = 512
jitter = [1.0]
components = 20
protocols = ["leave_one_patient_out"]
"""
    return [{"a.toml": text.encode()}, {"a.toml": b'[mpp]\na = 1\n[[x.y]]\nb = "\\u00e9"\n'}]


def _read_config(folder: Path, name: str) -> None:
    import dataclasses

    from msiscale.config import load_config

    config = dataclasses.asdict(load_config(str(folder / name)))
    numbers = np.hstack([v for v in config.values() if isinstance(v, float | int | tuple)])
    for value in numbers:
        with np.errstate(all="ignore"), contextlib.suppress(ValueError):  # a word
            assert np.isfinite(float(value)), f"{value} passed"


TARGETS: dict[str, Target] = {
    "imzml": Target(_imzml_seeds, _read_imzml),
    "spectrum_list": Target(_imzml_seeds, _read_spectrum_list),
    "hdf5": Target(_hdf5_seeds, _read_imzml),
    "geojson": Target(_geojson_seeds, _read_annotation),
    "xml": Target(_xml_seeds, _read_annotation),
    "manifest": Target(_manifest_seeds, _read_manifest),
    "tiff": Target(_tiff_seeds, _read_slide),
    "picture": Target(_picture_seeds, _read_slide),
    "landmarks": Target(_landmark_seeds, _read_landmarks),
    "matrix": Target(_matrix_seeds, _read_matrix),
    "lipids": Target(_lipid_seeds, _read_lipids),
    "config": Target(_config_seeds, _read_config),
}


def tried(target: Target, folder: Path, files: Files) -> str:
    """``read`` or ``refused``; an exception of any other kind is a crash.

    Raises
    ------
    AssertionError
        What was read is not sound, or what was said is not a line that names the file.
    """
    import warnings

    from msiscale.errors import InputError

    for name, data in files.items():
        (folder / name).write_bytes(data)
    first = next(iter(files))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.read(folder, first)
        except InputError as error:
            said = str(error)
            assert "\n" not in said and "\r" not in said, f"not one line: {said!r}"
            assert Path(first).stem in said or said.startswith(("option ", "annotation:")), said
            assert len(said) < 2000, f"{len(said)} characters"
            return "refused"
    return "read"
