from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge.errors import NotAnImageError
from pneumo_edge.imaging import folders, images, sniffing
from pneumo_edge.imaging.folders import Why


def _picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(stream, kind)
    return stream.getvalue()


#: Whole files of kinds that are read, and the beginnings of others.
_READ = {kind: _picture(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")} | {
    "DICOM": b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00",
    "DICOM without a preamble": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
    "DICOM with implicit representations": b"\x08\x00\x08\x00\x0c\x00\x00\x00ORIGINAL\\AX",
}
_NOT_READ = {
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "JPEG XL": b"\xff\x0a\xfa\x3f",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ",
    "PNM": _picture("PPM"),
    "PSD": b"8BPS\0\x01" + bytes(20),
    "ICO": _picture("ICO"),
    "DDS": b"DDS \x7c\0\0\0",
    "PCX": _picture("PCX"),
    "SGI": _picture("SGI"),
    "NIfTI": bytes(344) + b"n+1\0",
    "SVG": b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
}
_NONE = {
    "empty": b"",
    "text": "Röntgenbilder vom Montag\n".encode(),
    "a table of BMI": b"BMI,age\n21.5,30\n22.0,41\n",
    "a list of P values": b"P5 value: 0.03\n",
    "JSON": b'{"images": 3}',
    "an archive": b"PK\x03\x04" + bytes(100),
    "a film": b"\0\0\0\x18ftypmp42\0\0\0\0",
    "the index of a disc": b"\0" * 128 + b"DICM" + b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10\0",
    "a thumbnail database": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
}


@pytest.mark.parametrize("kind", _READ)
def test_kinds_that_are_read_are_known_by_their_beginning(kind: str) -> None:
    found = sniffing.sniff(_READ[kind])
    assert found
    assert (found.name, found.is_read) == (kind.split()[0], True)


@pytest.mark.parametrize("kind", _NOT_READ)
def test_kinds_that_are_not_read_are_named_in_the_refusal(kind: str) -> None:
    assert sniffing.sniff(_NOT_READ[kind]) == sniffing.Kind(kind, is_read=False)
    with pytest.raises(NotAnImageError, match=f"this is {kind}, not an image of a supported format"):
        images.decode(_NOT_READ[kind])


@pytest.mark.parametrize("kind", _NONE)
def test_what_is_no_image_is_of_no_kind(kind: str) -> None:
    assert sniffing.sniff(_NONE[kind]) is None


MakeTree = Callable[[Mapping[str, bytes | str | None]], Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """A folder with files (bytes), links (text) and folders (None)."""

    def make(contents: Mapping[str, bytes | str | None]) -> Path:
        root = tmp_path / "tree"
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
        return root

    return make


def _images(root: Path) -> list[str]:
    (tree,) = folders.search([root])
    return [path.relative_to(root).as_posix() for path in tree.images]


def test_content_decides_where_the_ending_does_not(make_tree: MakeTree) -> None:
    png = _READ["PNG"]
    root = make_tree(
        {"a.jfif": _READ["JPEG"], "IM000001": _READ["DICOM"], "1.2.840.113619.2.5": _READ["DICOM"], "b.dat": png,
         "c.avif": b"cut", "d": _NOT_READ["AVIF"], "e.png": b"no picture", "f.txt": b"x", "g": b"", "README": b"x"}
    )  # fmt: skip
    assert _images(root) == ["1.2.840.113619.2.5", "IM000001", "a.jfif", "b.dat", "c.avif", "d", "e.png"]
    (tree,) = folders.search([root])
    assert {path.name: why for path, why in tree.passed_over.items()} == dict.fromkeys(
        ("f.txt", "g", "README"), Why.NO_IMAGE
    )


def test_what_systems_leave_behind_is_passed_over_by_name(make_tree: MakeTree) -> None:
    png = _READ["PNG"]
    names = ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a.png", ".ipynb_checkpoints/a.png")
    root = make_tree({"a.png": png, **dict.fromkeys(names, png)})
    (tree,) = folders.search([root])
    assert [path.name for path in tree.images] == ["a.png"]
    assert {path.relative_to(root).parts[0]: why for path, why in tree.passed_over.items()} == {
        name.split("/")[0]: Why.HIDDEN for name in names
    }


def test_links_to_folders_are_followed_once_and_loops_end(make_tree: MakeTree) -> None:
    png = _READ["PNG"]
    root = make_tree(
        {"day1": "../elsewhere", "loop": ".", "deep/up": "../..", "real/a.png": png, "again": "real",
         "z.png": "real/a.png", "gone": "nowhere", "round": "round"}
    )  # fmt: skip
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "b.png").write_bytes(png)
    (root.parent / "elsewhere" / "back").symlink_to(root)
    # A link to nothing, and one to itself, are for the reader to refuse: nobody can see that they are no images.
    assert _images(root) == ["day1/b.png", "gone", "real/a.png", "round", "z.png"]
    (tree,) = folders.search([root])
    assert {path.relative_to(root).as_posix(): why for path, why in tree.passed_over.items()} == {
        "again": Why.SEEN, "day1/back": Why.SEEN, "loop": Why.BACK, "deep/up": Why.BACK,
    }  # fmt: skip


def test_a_file_belongs_to_the_root_that_really_holds_it(make_tree: MakeTree) -> None:
    root = make_tree({"one/link": "../two", "two/a.png": _READ["PNG"], "three": "two"})
    one, two, three = folders.search([root / "one", root / "two", root / "three"])
    assert tuple([path.name for path in tree.images] for tree in (one, two, three)) == ([], ["a.png"], [])
    assert (list(one.passed_over), list(three.passed_over)) == ([root / "one" / "link"], [root / "three"])


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names")
def test_a_pipe_is_named_and_not_waited_for(make_tree: MakeTree) -> None:
    root = make_tree({"a.png": _READ["PNG"]})
    os.mkfifo(root / "pipe.png")
    (root / "link.png").symlink_to("pipe.png")
    (tree,) = folders.search([root])
    assert tree.passed_over == {root / "pipe.png": Why.SPECIAL, root / "link.png": Why.SPECIAL}


def test_the_summary_names_fifty_and_counts_the_rest(make_tree: MakeTree) -> None:
    root = make_tree({f"{index:03}.txt": b"x" for index in range(53)} | {"a\nb": b"x"})
    (tree,) = folders.search([root])
    (line,) = folders.summarize(tree.passed_over.items(), root)
    assert line.startswith("54 files are not images: 000.txt, 001.txt")
    assert line.endswith("049.txt and 4 more (.txt: 3, no ending: 1)")
