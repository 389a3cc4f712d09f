"""Common parts of the errors of DICOM files: what was expected, and what to do."""

from __future__ import annotations

from pneumo_edge.errors import ImageError

WHOLE = "a complete DICOM file"
AGAIN = "Copy the file again from its source"
ONE_GREY = "a single greyscale image"
EXPORT = "Export the X-ray as an 8-bit greyscale PNG or JPEG"
WITH_WINDOW = "Export it with a radiologist's window, as an 8-bit greyscale PNG or JPEG"


def contradiction(given: str) -> ImageError:
    """Make the error for a file whose header contradicts its content."""
    return ImageError(f"the DICOM file {given}", "a file whose content matches its header", EXPORT)
