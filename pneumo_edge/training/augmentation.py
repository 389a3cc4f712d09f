"""Random augmentation of training images: the settings, and the function that applies them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras


@dataclass(frozen=True)
class Augmentation:
    """Largest amount of each random change; the amount is drawn for each image.

    A flip moves the heart to the other side, so few recipes have it. Height and width are scaled independently, because
    the images of the data set lost their aspect ratio when they were made square. Its classes and splits differ in
    aspect ratio, sharpness and exposure for reasons that are not medical.

    Attributes:
        rotation: Largest angle, degrees.
        shear: Largest shear, share of the side.
        translation: Largest shift in each direction, share of the side.
        scale: Largest change of height and of width, as the natural logarithm of the factor.
        gamma: Largest natural logarithm of the exponent of the grey curve.
        contrast: Largest natural logarithm of the factor about middle grey.
        brightness: Largest offset, share of the grey range.
        blur: Largest standard deviation of a Gaussian blur, in pixels of a 224-pixel side.
        noise: Largest standard deviation of Gaussian noise, share of the grey range.
        cutout: Largest side of a box filled with one grey, share of the image's side.
        flip: Probability that left and right change places.

    Five groups of changes are each applied to an image with a probability of one half, independently: the geometric
    changes (the first four), the grey curve (the next three), the blur, the noise and the cutout.
    """

    rotation: float = 0.0
    shear: float = 0.0
    translation: float = 0.0
    scale: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    flip: float = 0.0


def augment(grey: npt.NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Change each image at random.

    Args:
        grey: uint8 array of shape (images, side, side), values 0 to 255.
        augmentation: The largest amounts.
        rng: Random generator.

    Returns:
        A new array of the same shape.
    """
    return np.stack([_augment_one(image, augmentation, rng) for image in grey])


def resize(grey: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Make images smaller by averaging areas; images of the right size are returned unchanged.

    Args:
        grey: uint8 array of shape (images, height, width), values 0 to 255.
        side: New height and width in pixels.
    """
    if grey.shape[1:] == (side, side):
        return grey
    cv2 = extras.need("cv2", "train")
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in grey]
    return np.asarray(small, dtype=np.uint8)


def _augment_one(image: npt.NDArray[np.uint8], a: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    cv2 = extras.need("cv2", "train")
    side = image.shape[0]
    # Every number is drawn for every image, used or not, so that one setting does not change the draws of the others.
    symmetric, positive, chance = rng.uniform(-1, 1, 9), rng.uniform(0, 1, 7), rng.uniform(0, 1, 5) < 0.5
    changed = image
    if chance[3]:
        # Reflected edges, because a network could learn from black edges which images were changed.
        changed = cv2.warpAffine(
            image, _affine(symmetric[:6], a, side), (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    if chance[4]:
        changed = cv2.LUT(changed, _grey_curve(symmetric[6:9], a))
    if a.blur and chance[0]:
        changed = cv2.GaussianBlur(changed, (0, 0), max(positive[0] * a.blur * side / 224, 1e-3))
    if a.noise and chance[1]:
        noise = rng.standard_normal(changed.shape, dtype=np.float32) * np.float32(positive[1] * a.noise * 255)
        changed = np.clip(changed + noise, 0, 255).astype(np.uint8)
    if a.cutout and chance[2]:
        changed = _cutout(changed.copy(), positive[2:7], a.cutout)
    if a.flip and rng.uniform() < a.flip:
        changed = cv2.flip(changed, 1)
    return np.asarray(changed, dtype=np.uint8)


def _affine(drawn: npt.NDArray[np.float64], a: Augmentation, side: int) -> npt.NDArray[np.float64]:
    """Return the 2 x 3 matrix that rotates, shears, scales and shifts an image about its centre."""
    angle = np.deg2rad(drawn[0] * a.rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, drawn[1] * a.shear], [0.0, 1.0]])
    linear = turn @ shear @ np.diag(np.exp(drawn[2:4] * a.scale))
    centre = np.full(2, (side - 1) / 2)
    shift = centre - linear @ centre + drawn[4:6] * a.translation * side
    return np.column_stack([linear, shift])


def _grey_curve(drawn: npt.NDArray[np.float64], a: Augmentation) -> npt.NDArray[np.uint8]:
    """Return a table of 256 grey values: gamma, then contrast about the middle, then brightness."""
    grey = np.linspace(0, 1, 256) ** np.exp(drawn[0] * a.gamma)
    grey = (grey - 0.5) * np.exp(drawn[1] * a.contrast) + 0.5 + drawn[2] * a.brightness
    return np.asarray(np.rint(np.clip(grey, 0, 1) * 255), dtype=np.uint8)


def _cutout(image: npt.NDArray[np.uint8], drawn: npt.NDArray[np.float64], largest: float) -> npt.NDArray[np.uint8]:
    side = image.shape[0]
    height, width = np.maximum(1, np.rint(drawn[:2] * largest * side)).astype(int)
    top, left = np.floor(drawn[2:4] * (side - np.array([height, width]))).astype(int)
    image[top : top + height, left : left + width] = int(drawn[4] * 255)
    return image
