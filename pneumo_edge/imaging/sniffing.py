"""Detects the kind of an image from its first bytes; the file's name is not used."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: So many bytes from the beginning of a file are enough for :func:`sniff`.
HEAD_BYTES = 1024

_JP2_BOX = b"\x00\x00\x00\x0c%s\r\n\x87\n"
_READ = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
    # Two letters begin many a text, too: the size of the header behind them is one of these.
    ("BMP", re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", re.DOTALL)),
    ("DICOM", re.compile(rb"(?:.{128})?DICM", re.DOTALL)),
    # Without that: an element of group 2 or 8 with its value representation in either byte order, or a short one.
    ("DICOM", re.compile(rb"(?:[\x02\x08]\x00|\x00[\x02\x08])..(?:AE|AS|CS|DA|LO|OB|PN|SH|TM|UI|UL)", re.DOTALL)),
    ("DICOM", re.compile(rb"[\x02\x08]\x00.[\x00\x01].[\x00-\x03]\x00\x00", re.DOTALL)),
)
_NOT_READ = (
    ("AVIF", re.compile(rb".{4}ftypavi[fs]", re.DOTALL)),
    ("HEIC", re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|" + re.escape(_JP2_BOX % b"JXL "), re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\xff\x4f\xff\x51|" + re.escape(_JP2_BOX % b"jP  "), re.DOTALL)),
    ("JPEG XR", re.compile(rb"II\xbc[\x00\x01]")),
    ("PNM", re.compile(rb"P[1-6]\s+(?:#|\d)|P7\nWIDTH|P[Ff]\s+\d+\s")),
    ("PSD", re.compile(rb"8BPS\x00[\x01\x02]")),
    ("ICO", re.compile(rb"\x00\x00[\x01\x02]\x00[^\x00]\x00.{3}\x00", re.DOTALL)),
    ("OpenEXR", re.compile(rb"\x76\x2f\x31\x01")),
    ("Radiance HDR", re.compile(rb"#\?(?:RADIANCE|RGBE)")),
    ("DDS", re.compile(rb"DDS \x7c\x00\x00\x00")),
    ("PCX", re.compile(rb"\x0a[\x00-\x05]\x01[\x01\x02\x04\x08].{60}\x00", re.DOTALL)),
    ("SGI", re.compile(rb"\x01\xda[\x00\x01][\x01\x02]")),
    ("Sun raster", re.compile(rb"\x59\xa6\x6a\x95")),
    ("QOI", re.compile(rb"qoif")),
    ("FLIF", re.compile(rb"FLIF")),
    ("BPG", re.compile(rb"BPG\xfb")),
    ("MNG", re.compile(rb"\x8a[MJ]NG\r\n\x1a\n")),
    ("FITS", re.compile(rb"SIMPLE  =")),
    ("NRRD", re.compile(rb"NRRD000\d")),
    ("NIfTI", re.compile(rb".{344}n[i+][12]\x00|.{4}n[i+]2\x00", re.DOTALL)),
    ("MetaImage", re.compile(rb"ObjectType\s*=\s*Image")),
    (
        "SVG",
        re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!(?:--.*?-->|DOCTYPE[^>]*>)\s*)*<svg\b", re.DOTALL),
    ),
)
#: The index on a disc of DICOM files, which has no picture.
_DICOM_DIRECTORY = b"1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Kind:
    """A kind of image; ``is_read`` is False where nothing here decodes it."""

    name: str
    is_read: bool


def sniff(head: bytes) -> Kind | None:
    """Tell the kind of an image file.

    Args:
        head: Its first :data:`HEAD_BYTES` bytes, or all of them.

    Returns:
        The kind; None where the bytes begin as no image that is known, an empty file among them. A file of a kind
        that is read may still turn out to be broken.
    """
    for rows, is_read in ((_READ, True), (_NOT_READ, False)):
        for name, beginning in rows:
            if beginning.match(head):
                return None if name == "DICOM" and _DICOM_DIRECTORY + b"\x00" in head else Kind(name, is_read)
    return None
