"""A small writer of DICOM whole-slide levels, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE = 64  # of a frame


def write_dicom(path: Path, pixels: np.ndarray, *, um: float, series: int) -> None:
    """A level (h, w, 3) of a series, in whole frames of 64 x 64 px, not compressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    h, w = pixels.shape[:2]
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    found.SOPInstanceUID = generate_uid()
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.Modality = "SM"
    found.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    found.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {series}"])
    found.ImageType = ["ORIGINAL" if um < 0.3 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]
    found.Rows = found.Columns = SIDE
    found.TotalPixelMatrixRows, found.TotalPixelMatrixColumns = h, w
    found.NumberOfFrames = (h // SIDE) * (w // SIDE)
    found.SamplesPerPixel, found.PhotometricInterpretation = 3, "RGB"
    found.PlanarConfiguration = found.PixelRepresentation = 0
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit = 7
    found.DimensionOrganizationType = "TILED_FULL"
    found.TotalPixelMatrixFocalPlanes = 1
    found.OpticalPathSequence = [Dataset()]
    found.OpticalPathSequence[0].OpticalPathIdentifier = "1"
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [um / 1000, um / 1000]
    shared.PixelMeasuresSequence = [measures]
    found.SharedFunctionalGroupsSequence = [shared]
    frames = pixels.reshape(h // SIDE, SIDE, w // SIDE, SIDE, 3).swapaxes(1, 2)
    found.PixelData = np.ascontiguousarray(frames).tobytes()
    found.save_as(path, enforce_file_format=True)
