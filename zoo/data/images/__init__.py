"""Reading images: the one layer by which every room gets pixels out of encoded bytes.

- :class:`~zoo.data.images.facts.ImageFacts` (:func:`~zoo.data.images.facts.read_facts`): what the header says, without decoding.
- :class:`~zoo.data.images.reading.Reading`: what a data spec says about how images are read (``range=``, ``bands=``, ``exif=``).
- :func:`~zoo.data.images.decode.decoded`, :func:`~zoo.data.images.decode.decode_rgb`: pixels, as RGB of 8 bits, with bounded memory.
- :mod:`~zoo.data.images.endings`: which file endings are read here, and what to say of a file that is an image all the same.

Whatever cannot be read raises :class:`~zoo.data.images.errors.BadImageError`, whose text says why.
"""

from zoo.data.images.decode import Decoded, decode_rgb, decoded
from zoo.data.images.errors import BadImageError
from zoo.data.images.facts import ImageFacts, read_facts
from zoo.data.images.reading import AS_SEEN, AS_STORED, Reading, reading_of

__all__ = [
    "AS_SEEN",
    "AS_STORED",
    "BadImageError",
    "Decoded",
    "ImageFacts",
    "Reading",
    "decode_rgb",
    "decoded",
    "read_facts",
    "reading_of",
]
