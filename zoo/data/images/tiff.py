"""TIFFs that Pillow cannot hold: many bands, wide colours, packed bits. They are read by the extra ``tifffile``."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import Any

from numpy.typing import NDArray

from zoo.data.images.errors import BadImageError
from zoo.data.images.facts import ImageFacts, Source, reason_of


def read_tiff(source: Source, facts: ImageFacts) -> list[NDArray[Any]]:
    """The bands of the first page, each an array (height, width) of the file's own numbers.

    Raises
    ------
    BadImageError
        The extra is not installed, or the file is damaged or compressed in a way that it does not know.
    """
    if find_spec("tifffile") is None:
        raise BadImageError(f"{facts}: such a TIFF is read with an extra: pip install 'backbone-loop[tiff]'")
    from tifffile import TiffFile  # only such files need it

    file = BytesIO(source) if isinstance(source, bytes) else source
    file.seek(0)
    try:
        with TiffFile(file) as tiff:
            page = tiff.pages[0]
            values, axes = page.asarray(), page.axes
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes let nearly any exception out
        raise BadImageError(f"{facts}: {reason_of(error)}") from error
    if values.ndim == 2:
        return [values]
    samples = axes.find("S")
    if values.ndim != 3 or samples < 0 or values.shape[samples] != facts.bands:
        raise BadImageError(f"{facts}: a TIFF of axes {axes}, which is not read")
    return [values.take(band, axis=samples) for band in range(facts.bands)]
