"""Views made by Pillow, one image at a time, in the loader's workers.

:func:`cut` is the crop of encoded images on both backends. :func:`apply_photometric` is the ``cpu`` backend: the operations that published
runs of MoCo, SimCLR and their kin used, through torchvision, with this package's parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageFilter
from torchvision.transforms import functional

from evaluation.views.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Crops, Photometric

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ADJUST: dict[int, Callable[[Image.Image, float], Image.Image]] = {
    BRIGHTNESS: functional.adjust_brightness,
    CONTRAST: functional.adjust_contrast,
    SATURATION: functional.adjust_saturation,
    HUE: functional.adjust_hue,
}
_SOLARIZE_THRESHOLD = 128


def cut(image: Image.Image, crops: Crops, row: int, size: int, interpolation: str) -> Image.Image:
    """Crop the box of sample ``row``, resize it to ``size`` x ``size`` with antialiasing, and flip it where its parameters say so.

    The crop is made first: ``Image.resize(box=...)`` would let the filter read pixels beyond the box. JPEG's draft mode is not
    used, since its reduced decoding gives other pixels.
    """
    top, left, height, width = (int(value) for value in crops.boxes[row])
    view = image.crop((left, top, left + width, top + height)).resize((size, size), _RESAMPLING[interpolation])
    if crops.flip[row]:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if crops.vertical_flip[row]:
        view = view.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return view


def apply_photometric(image: Image.Image, parameters: Photometric, row: int) -> Image.Image:
    """Jitter, channel permutation, grayscale, blur, solarize and invert with the parameters of sample ``row``."""
    for operation in parameters.order[row] if parameters.jitter[row] else ():
        factor = float(parameters.factors[row, operation])
        # A hue shift of zero would still round every pixel to 8-bit HSV and back.
        if operation != HUE or factor != 0.0:
            image = _ADJUST[int(operation)](image, factor)
    bands = image.split()
    image = Image.merge("RGB", [bands[channel] for channel in parameters.channels[row]])
    if parameters.grayscale[row]:
        image = functional.rgb_to_grayscale(image, num_output_channels=3)
    if parameters.sigma[row] > 0.0:
        image = image.filter(ImageFilter.GaussianBlur(radius=float(parameters.sigma[row])))
    if parameters.solarize[row]:
        image = functional.solarize(image, threshold=_SOLARIZE_THRESHOLD)
    if parameters.invert[row]:
        image = functional.invert(image)
    return image
