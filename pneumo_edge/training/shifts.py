"""Changes of validation images, as another X-ray machine or another export might have made them.

Validation comes from the same years and machines as training, so every good recipe scores close to the maximum there.
The loss of accuracy on changed images still separates recipes, without the test split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras

Grey = npt.NDArray[np.uint8]


def darker(image: Grey) -> Grey:
    """Subtract a fifth of the grey range."""
    return _curve(image, lambda grey: grey - 0.2)


def brighter(image: Grey) -> Grey:
    """Add a fifth of the grey range."""
    return _curve(image, lambda grey: grey + 0.2)


def flat(image: Grey) -> Grey:
    """Halve the contrast about middle grey."""
    return _curve(image, lambda grey: 0.5 + (grey - 0.5) / 2)


def steep(image: Grey) -> Grey:
    """Raise the contrast by 1.6 about middle grey."""
    return _curve(image, lambda grey: 0.5 + (grey - 0.5) * 1.6)


def equalized(image: Grey) -> Grey:
    """Apply contrast-limited adaptive histogram equalization, as many viewers do."""
    cv2 = extras.need("cv2", "train")
    return np.asarray(cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(image), dtype=np.uint8)


def blurred(image: Grey) -> Grey:
    """Average to 80 pixels per side and enlarge again, as if the image had been small."""
    cv2 = extras.need("cv2", "train")
    small = cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def compressed(image: Grey) -> Grey:
    """Compress as JPEG of quality 10."""
    cv2 = extras.need("cv2", "train")
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def collimated(image: Grey) -> Grey:
    """Shrink to four fifths on black, as if the film showed more than the chest."""
    cv2 = extras.need("cv2", "train")
    height, width = image.shape
    small = cv2.resize(image, (width * 4 // 5, height * 4 // 5), interpolation=cv2.INTER_AREA)
    framed = np.zeros_like(image)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    framed[top : top + small.shape[0], left : left + small.shape[1]] = small
    return framed


#: Each takes and returns a uint8 array of shape (height, width), values 0 to 255.
SHIFTS: dict[str, Callable[[Grey], Grey]] = {
    shift.__name__: shift for shift in (darker, brighter, flat, steep, equalized, blurred, compressed, collimated)
}


def _curve(image: Grey, change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Grey:
    table = np.rint(np.clip(change(np.linspace(0, 1, 256)), 0, 1) * 255).astype(np.uint8)
    return np.take(table, image)
