"""The files of an annotation source, and which of them an annotation means."""

from __future__ import annotations

import io
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from medseg.core.errors import FormatError
from medseg.formats.checks import in_short, require_content
from medseg.formats.quiet import quiet

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
KEPT = tuple(extension for extension in PICTURES if extension != ".webp")
_HEAD = 65536  # characters that tell what a JSON or XML file is
_SNIFFED = 20  # files that are looked into to tell a format
_ORIENTATION = 0x0112  # EXIF
_UPRIGHT = (None, 0, 1)
_TURNED = (5, 6, 7, 8)  # orientations that exchange rows and columns


@dataclass(frozen=True, eq=False)
class Tree:
    """Every file of a source, hidden ones left out. `only`: the one annotation file that was named."""

    root: Path
    files: tuple[Path, ...]
    only: Path | None = None

    @classmethod
    def of(cls, source: Path) -> Tree:
        """Look through a folder, or the folder of an annotation file. Raises FormatError where it is missing."""
        if not source.exists():
            raise FormatError(source, "there is no such file or folder")
        root = source if source.is_dir() else source.parent
        files: list[Path] = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files += [Path(folder, name) for name in names if not name.startswith(".")]
        return cls(root, tuple(sorted(files)), source if source.is_file() else None)

    def annotations(self, extension: str) -> list[Path]:
        """The files that may hold annotations: those with this extension, or the one that was named."""
        files = self.files if self.only is None else (self.only,)
        return [file for file in files if file.suffix.lower() == extension]

    def heads(self, extension: str) -> list[str]:
        """The beginnings of some annotation files, to tell their format."""
        return [head(file) for file in self.annotations(extension)[:_SNIFFED]]

    def relative(self, path: Path) -> str:
        """The path below the source as an annotation would write it, or the mere name of a file elsewhere."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.name

    @cached_property
    def pictures(self) -> dict[str, list[Path]]:
        """Picture files by their name."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            if file.suffix.lower() in PICTURES:
                found[file.name].append(file)
        return dict(found)

    def image(self, name: str, folders: Sequence[Path], annotation: Path) -> Path:
        """The image that an annotation names: below one of `folders`, or the only file of that name anywhere.

        Only picture files in the source or beside it are taken. Raises FormatError (missing-image).
        """
        wanted = PurePosixPath(name.replace("\\", "/"))
        if not wanted.is_absolute() and wanted.name:
            for folder in folders:
                path = folder / wanted
                if path.suffix.lower() in PICTURES and path.is_file() and self._near(path):
                    return path
        named = self.pictures.get(wanted.name, [])
        if len(named) == 1:
            return named[0]
        reason = f"several files are called {wanted.name}" if named else "there is no such picture file"
        raise FormatError(annotation, f"names the image {name!r}, but {reason}", "missing-image")

    def _near(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve().parent)


def head(path: Path) -> str:
    """The first characters of a text file ('' where it cannot be read)."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises FormatError where the file is missing, broken or holds something else."""
    require_content(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(path, f"is not valid JSON ({in_short(error)})") from error
    if not isinstance(raw, dict):
        raise FormatError(path, "is JSON, but not an annotation (no keys and values)")
    return raw


def image_size(image: Path | bytes, annotation: Path, upright: bool = False) -> tuple[int, int]:
    """Rows and columns of a picture, turned as EXIF says where `upright`. Raises FormatError where it is none."""
    from PIL import Image

    path = image if isinstance(image, Path) else annotation
    try:
        with quiet(), Image.open(image if isinstance(image, Path) else io.BytesIO(image)) as picture:
            columns, rows = picture.size
            if int(getattr(picture, "n_frames", 1)) > 1:
                raise FormatError(path, "holds several pages; annotations are read for single pictures only")
            turned = upright and picture.getexif().get(_ORIENTATION) in _TURNED
    except FormatError:
        raise
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        raise FormatError(path, f"its image {_why(error)}") from error
    return (columns, rows) if turned else (rows, columns)


def copy_image(image: Path | bytes, stem: Path, exif: Literal["keep", "apply", "drop"] = "keep") -> Path:
    """Copy a picture to `stem` + its extension, byte for byte where nothing has to change; returns the path.

    exif: what becomes of a camera's mark that the picture is turned: "apply" turns the pixels, "drop"
    removes the mark. Such pictures, and those that medseg does not read (WebP), become PNGs.
    Raises FormatError where it is no picture.
    """
    from PIL import Image, ImageOps

    try:
        with quiet(), Image.open(image if isinstance(image, Path) else io.BytesIO(image)) as picture:
            extension = _extension(image, picture.format)
            turned = exif != "keep" and picture.getexif().get(_ORIENTATION) not in _UPRIGHT
            if turned or extension not in KEPT:
                path = stem.with_name(f"{stem.name}.png")
                straight = ImageOps.exif_transpose(picture) if exif == "apply" else picture
                straight.save(path, format="PNG", exif=b"")
                return path
    except Exception as error:  # damaged pictures raise anything from SyntaxError to struct.error
        name = image if isinstance(image, Path) else stem.name
        raise FormatError(name, _why(error)) from error
    path = stem.with_name(stem.name + extension)
    path.write_bytes(image.read_bytes() if isinstance(image, Path) else image)
    return path


def _why(error: Exception) -> str:
    """Why Pillow could not read a picture; its own text for unknown kinds names only the path."""
    return f"cannot be read ({'it is no picture' if 'cannot identify' in str(error) else in_short(error)})"


def _extension(image: Path | bytes, kind: str | None) -> str:
    if isinstance(image, Path):
        return image.suffix.lower()
    return {"JPEG": ".jpg", "TIFF": ".tif"}.get(str(kind), f".{str(kind).lower()}")


def require_size(stated: tuple[Any, Any], size: tuple[int, int], image: Path | bytes, annotation: Path) -> None:
    """Raise FormatError (grid-mismatch) where an annotation was drawn on an image of another size than `size`.

    stated: rows and columns as the annotation has them; None where it says nothing.
    """
    for given, real in zip(stated, size, strict=True):
        if given is not None and number(given, annotation) != real:
            name = image.name if isinstance(image, Path) else "the image in it"
            reason = f"was drawn on {stated[1]}x{stated[0]} pixels, but {name} has {size[1]}x{size[0]}"
            raise FormatError(annotation, reason, "grid-mismatch")


def number(given: Any, annotation: Path) -> float:
    """A finite number from JSON or XML. Raises FormatError."""
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = float("nan")
    if isinstance(given, bool) or not abs(value) < 1e12:
        raise FormatError(annotation, f"{str(given)[:40]!r} stands where a number must")
    return value
