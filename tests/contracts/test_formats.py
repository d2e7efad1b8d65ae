"""What every format must do, whatever it is: one suite that each of them inherits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.case import Scan, Severity, Source
from medseg.core.errors import FormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap, Volume
from medseg.formats import FORMATS, discover, read, read_labels, source_of, write_labelmap, write_volume
from medseg.formats.dicom_write import write_series

OBLIQUE = np.array(
    [[-0.69282032, 0.4, 0.0, 31.25], [-0.4, -0.69282032, 0.0, -12.5], [0.0, 0.0, 2.5, 100.0], [0.0, 0.0, 0.0, 1.0]]
)
SHAPE = (6, 5, 4)


def values_in_world(scan: Scan, geometry: Geometry) -> NDArray[np.float32]:
    """The scan's values at the voxels of `geometry`, as formats may order axes in their own way."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    own = scan.volume.geometry.to_index(geometry.to_world(index))
    assert np.abs(own - np.rint(own)).max() < 1e-3
    i, j, k = np.rint(own).astype(int).T
    return scan.volume.array[0][i, j, k].reshape(geometry.shape)


class FormatContract:
    """Inherit, and say how a volume is written and what can be expected of it."""

    format: str
    shape: tuple[int, int, int] = SHAPE
    affine = OBLIQUE
    holds_labels = True

    def write(self, volume: Volume, folder: Path) -> Path:
        """Write below `folder`; returns the file or folder that is the scan."""
        raise NotImplementedError

    def a_file(self, path: Path) -> Path:
        return path if path.is_file() else sorted(path.iterdir())[0]

    def volume(self) -> Volume:
        values = np.random.default_rng(7).integers(0, 200, (1, *self.shape)).astype(np.int16)
        return Volume(values, Geometry(self.affine, self.shape))

    def test_comes_back_as_it_was_written(self, tmp_path: Path) -> None:
        volume = self.volume()
        scan = read(source_of(self.write(volume, tmp_path)))
        assert scan.volume.array.dtype == np.float32
        assert scan.integral
        np.testing.assert_array_equal(values_in_world(scan, volume.geometry), volume.array[0])
        assert not [f for f in scan.findings if f.severity is not Severity.INFO]

    def test_is_discovered_once_with_a_usable_name(self, tmp_path: Path) -> None:
        self.write(self.volume(), tmp_path / "in a folder")
        (tmp_path / "README.txt").write_text("nothing to read here")
        (source,) = discover(tmp_path)
        assert source.format == self.format
        assert source.format in FORMATS
        assert source.name.startswith("in a folder/")
        assert not source.findings

    def test_a_label_map_lands_on_the_source_grid(self, tmp_path: Path) -> None:
        source = source_of(self.write(self.volume(), tmp_path / "in"))
        geometry = read(source).volume.geometry
        labels = np.random.default_rng(3).integers(0, 4, geometry.shape).astype(np.uint8)
        path = write_labelmap(LabelMap(labels, geometry), source, tmp_path / "out" / "some.scan")
        again = read_labels(source_of(path))
        np.testing.assert_array_equal(again.array, labels)
        assert again.geometry.corner_distance(geometry) < 1e-4
        assert path.name.startswith("some.scan.")
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_a_label_map_of_another_grid_is_not_written(self, tmp_path: Path) -> None:
        source = source_of(self.write(self.volume(), tmp_path / "in"))
        other = LabelMap(np.zeros((9, 9, 1), np.uint8), Geometry(np.eye(4), (9, 9, 1)))
        if self.format in ("nifti", "image"):
            with pytest.raises(FormatError) as error:
                write_labelmap(other, source, tmp_path / "out" / "x")
            assert error.value.code == "grid-mismatch"

    def test_labels_are_read_as_whole_numbers(self, tmp_path: Path) -> None:
        path = self.write(self.volume(), tmp_path)
        if not self.holds_labels:
            with pytest.raises(FormatError):
                read_labels(source_of(path))
            return
        labels = read_labels(source_of(path))
        assert labels.array.dtype == np.int32
        assert labels.labels == ()

    @pytest.mark.parametrize("content", [b"", b"this is a text and no scan\n" * 40], ids=["zero-byte", "text"])
    def test_broken_files_are_refused_in_one_sentence(self, tmp_path: Path, content: bytes) -> None:
        file = self.a_file(self.write(self.volume(), tmp_path / "in"))
        broken = tmp_path / "broken" / (file.name + ("" if "." in file.name else ".dcm"))
        broken.parent.mkdir()
        broken.write_bytes(content)
        self.assert_refused(broken, ("unreadable", "partial-file"))

    def test_a_truncated_file_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        file = self.a_file(self.write(self.volume(), tmp_path))
        file.write_bytes(file.read_bytes()[:-60])
        self.assert_refused(file, ("unreadable", "partial-file"))

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "gone.nii.gz"
        with pytest.raises(FormatError, match="no such file"):
            read(Source(path, (path,), self.format, "gone"))

    def assert_refused(self, path: Path, codes: tuple[str, ...]) -> None:
        with pytest.raises(FormatError) as error:
            read(source_of(path))
        assert error.value.code in codes
        assert str(path) in str(error.value) or str(path.parent) in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400


class TestNifti(FormatContract):
    format = "nifti"

    def write(self, volume: Volume, folder: Path) -> Path:
        write_volume(volume, folder / "scan.nii.gz")
        return folder / "scan.nii.gz"


class TestUncompressedNifti(FormatContract):
    format = "nifti"

    def write(self, volume: Volume, folder: Path) -> Path:
        write_volume(volume, folder / "scan.nii")
        return folder / "scan.nii"


class _Itk(FormatContract):
    format = "itk"
    suffix: str

    def write(self, volume: Volume, folder: Path) -> Path:
        import SimpleITK as sitk  # noqa: N813 -- the name under which the field knows it

        affine = volume.geometry.to_lps()
        spacing = np.asarray(volume.geometry.spacing)
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array[0].T))
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        folder.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / f"scan{self.suffix}"), self.suffix == ".nrrd")
        return folder / f"scan{self.suffix}"


class TestNrrd(_Itk):
    suffix = ".nrrd"


class TestMetaImage(_Itk):
    suffix = ".mha"


class _Picture(FormatContract):
    format = "image"
    affine = np.eye(4)
    suffix: str

    def write(self, volume: Volume, folder: Path) -> Path:
        write_volume(volume, folder / f"scan{self.suffix}")
        return folder / f"scan{self.suffix}"


class TestPng(_Picture):
    suffix = ".png"
    shape = (30, 20, 1)


class TestTiff(_Picture):
    suffix = ".tif"
    shape = (30, 20, 1)


class TestMultiPageTiff(_Picture):
    suffix = ".tif"
    shape = (30, 20, 3)


class TestDicom(FormatContract):
    format = "dicom"
    holds_labels = False

    def write(self, volume: Volume, folder: Path) -> Path:
        write_series(volume, folder)
        return folder

    def test_a_truncated_file_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        """Cut in the pixels, in the header, and right after the preamble."""
        path = self.write(self.volume(), tmp_path)
        file = self.a_file(path)
        whole = file.read_bytes()
        for length in (len(whole) - 20, len(whole) // 2, 200, 134):
            file.write_bytes(whole[:length])
            self.assert_refused(file, ("unreadable", "partial-file", "not-an-image"))
