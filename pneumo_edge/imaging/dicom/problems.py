"""What the refusals of DICOM files have in common: what is expected, and what to do."""

from __future__ import annotations

from pneumo_edge.errors import ImageError

WHOLE = "a whole DICOM file"
AGAIN = "Copy the file again from its source"
ONE_GREY = "a single greyscale image"
EXPORT = "Export the X-ray as an 8-bit greyscale PNG or JPEG"
WITH_WINDOW = "Export it with the window a reader would use, as an 8-bit greyscale PNG or JPEG"


def contradiction(given: str) -> ImageError:
    """The error of a file that says one thing and holds another, which nobody but its source can resolve."""
    return ImageError(f"the DICOM file {given}", "a file that holds what its header says", EXPORT)
