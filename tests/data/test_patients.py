from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pneumo_edge.api import datasets
from pneumo_edge.cli import app
from pneumo_edge.data import patients
from pneumo_edge.data.patients import find_originals, find_patients, parse_patient
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import BY_PATIENT, Manifest, make_manifest
from pneumo_edge.errors import DataError, PatternError

#: What tools and file managers add to a name.
_ADDED = [
    " (1)", "(2)", " - Copy", " - Copy (3)", " copy", " copy 2", " 2", "~", "_copy", " - Kopie", "_aug_3", "_aug3",
    "-aug-12", "_flip", "_hflipped", "_rot90", "_rotated_15", "_bright", "_224x224", ".jpeg", "_png",
    "_jpeg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9", "_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9", "_0_5123", "-0002",
    "_3f2a77de-6c43-4a10-9d0c-0d6b8a4f2b11", " (1)_aug_2",
]  # fmt: skip
_BASES = {
    "person1_bacteria_2": ("person1", "bacteria"),
    "person1949_virus_4880": ("person1949", "virus"),
    "IM-0115-0001": ("IM-0115", ""),
    "NORMAL2-IM-0587-0001": ("NORMAL2-IM-0587", ""),
    "NORMAL-1234567-0001": ("1234567", ""),
    "BACTERIA-1234567-0003": ("1234567", "bacteria"),
    "VIRUS-200-0001": ("200", "virus"),
}


@pytest.mark.parametrize("base", _BASES)
@pytest.mark.parametrize("added", ["", *_ADDED])
def test_what_is_added_to_a_name_does_not_hide_the_patient(base: str, added: str) -> None:
    assert parse_patient(f"{base}{added}") == _BASES[base]


@pytest.mark.parametrize("base", _BASES)
@pytest.mark.parametrize("between", ["_", " ", "-"])
@pytest.mark.parametrize("added", ["", " (1)", "_aug_3", "_jpeg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9"])
def test_the_sign_between_the_parts_of_a_name_does_not_matter(base: str, between: str, added: str) -> None:
    assert parse_patient(f"{re.sub('[_-]', between, base)}{added}") == _BASES[base]


@pytest.mark.parametrize("before", ["Copy of ", "Copy (2) of ", "aug_3_", "flipped-", "NORMAL_original_", "0001."])
def test_nor_does_what_is_put_before_it(before: str) -> None:
    assert parse_patient(f"{before}person1_virus_6") == ("person1", "virus")


@pytest.mark.parametrize(
    "stem",
    [
        "00000013_005",
        "person_virus_1",
        "IM-0115",
        "NORMAL-12",
        "NORMAL_12",
        "Virus 7",
        "normal_aug_1",
        "normal (3)",
        "xperson1_virus_2",
    ],
)
def test_other_names_tell_no_patient(stem: str) -> None:
    assert parse_patient(stem) is None


@pytest.mark.parametrize(
    ("stems", "groups"),
    [
        (["a", "a (1)", "a - Copy", "b"], ["aaa", "b"]),
        (["img1_aug_1", "img1_aug_2", "img2_aug_1"], ["img1", "img2"]),
        (["x_jpg.rf.0123456789abcdef0123456789abcdef", "x_jpg.rf.fedcba98765432100123456789abcdef"], ["x"]),
        # Renamed all at once: one picture each.
        (["Normal (1)", "Normal (2)", "Normal (3)"], ["1", "2", "3"]),
        (["normal_aug_1", "normal_aug_2"], ["1", "2"]),
        (["1", "2", "10"], ["1", "2", "10"]),
        (["p/a (1)", "p/a", "q/a"], ["p", "q"]),
    ],
)  # fmt: skip
def test_copies_are_grouped_by_name_where_the_original_is_sure(stems: list[str], groups: list[str]) -> None:
    found = [original or stem for stem, original in zip(stems, find_originals(stems), strict=True)]
    assert len(set(found)) == len(groups)


# The user's own pattern

_NAMES = ["a/p7_scan1.png", "p12_scan2.png", "other.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^(p\d+)_", ("p7", "p12", "")),
        (r"(\d+)_scan\d+$", ("7", "12", "")),
        (r"^(p\d+)_scan\d+\.png$", ("p7", "p12", "")),
        (r"(?P<patient>p\d+)_(scan)", ("p7", "p12", "")),
        (r"^(\w)/", ("a", "", "")),
        (r"(?:p(\d+)|other)", ("7", "12", "")),
    ],
)
def test_a_pattern_finds_patients_in_name_or_path(pattern: str, expected: tuple[str, ...]) -> None:
    assert find_patients(pattern, _NAMES) == expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(p", "cannot be read"),
        ("a{99999999999}(b)", "cannot be read"),
        ("*", "cannot be read"),
        (r"p\d+", "no groups"),
        (r"(p)(\d+)", "2 groups"),
        (r"^(nobody)", "in none of"),
        (r"()", "in none of"),
    ],
)
def test_a_pattern_that_tells_nothing_is_refused_in_one_line(
    make_folder: Any, healthy: dict[str, bytes], pattern: str, said: str
) -> None:
    result = CliRunner().invoke(app, ["data", "audit", str(make_folder(healthy)), "--patient-pattern", pattern])
    assert result.exit_code == (3 if "none of" in said else 2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^(p)\d", "assigns 40 of 40 images to one patient, 'p'"),
        (r"^(p[01])", "assigns 22 of 40 images to one patient, 'p1'"),
        (r"^(p\d+)_", ""),
    ],
)
@pytest.mark.parametrize("verb", ["audit", "train"])
def test_a_pattern_that_makes_one_patient_of_most_images_is_warned_of(
    make_folder: Any, picture: Any, capsys: pytest.CaptureFixture[str], pattern: str, said: str, verb: str
) -> None:
    contents = {f"train/{('NORMAL', 'PNEUMONIA')[i % 2]}/p{i // 2}_{i}.png": picture(i, kind="PNG") for i in range(40)}
    root = make_folder(contents)
    if verb == "audit":
        told = CliRunner().invoke(app, ["data", "audit", str(root), "--patient-pattern", pattern]).stderr
    else:
        datasets.open_data(root, pattern)
        told = capsys.readouterr().err
    lines = [line for line in told.splitlines() if line.startswith("warning: ")]
    assert len(lines) == bool(said)
    assert all(said in line for line in lines)


def test_a_pattern_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "_SECONDS", 2.0)
    with pytest.raises(PatternError, match="no answer within 2 s"):
        find_patients("^(a+)+$", ["a" * 200 + "!"])


def test_an_archive_has_no_names_to_search(medmnist: tuple[Path, object]) -> None:
    with pytest.raises(DataError, match="no file names"):
        open_source(medmnist[0], "(x)")


# What becomes of the split


def _split(root: Path, pattern: str = "") -> Manifest:
    source = open_source(root, pattern)
    return make_manifest(source, {sample.name: sample.name for sample in source.samples}, {})


def _sides(manifest: Manifest, person: Any) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = defaultdict(set)
    for entry in manifest.entries:
        if entry.split != "test":
            sides[person(Path(entry.name).name)].add(entry.split)
    return sides


def _folder(make_folder: Any, normal: Any, pneumonia: Any) -> Path:
    names = {f"train/NORMAL/{normal(p, i)}": b"x" for p in range(20) for i in range(5)}
    names |= {f"train/PNEUMONIA/{pneumonia(p, i)}": b"x" for p in range(20) for i in range(5)}
    root: Path = make_folder(names)
    return root


def test_no_patient_of_mendeleys_release_is_on_both_sides(make_folder: Any) -> None:
    root = _folder(
        make_folder,
        lambda p, i: f"NORMAL-{1000000 + 37 * p}-{i:04}.jpeg",
        lambda p, i: f"{('BACTERIA', 'VIRUS')[p % 2]}-{2000000 + 37 * p}-{i:04}.jpeg",
    )
    manifest = _split(root)
    assert manifest.rule == BY_PATIENT
    assert manifest.counts["val"] == {"NORMAL": 10, "PNEUMONIA": 10}
    assert all(len(splits) == 1 for splits in _sides(manifest, lambda name: name.split("-")[1]).values())


@settings(max_examples=20)
@given(st.lists(st.sampled_from(_ADDED[:-4]), min_size=5, max_size=5, unique=True))
def test_copies_stay_with_their_patient(tmp_path_factory: pytest.TempPathFactory, added: list[str]) -> None:
    root = tmp_path_factory.mktemp("copies")
    for p in range(20):
        for name, extra in ((n, e) for n in (f"IM-{p:04}-0001", f"person{p}_virus_{p}") for e in added):
            path = root / "train" / ("NORMAL" if name.startswith("IM") else "PNEUMONIA") / f"{name}{extra}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    manifest = _split(root)
    assert manifest.rule == BY_PATIENT
    sides = _sides(manifest, lambda name: name[:7] if name.startswith("IM") else name.split("_")[0])
    assert len(sides) == 40
    assert all(len(splits) == 1 for splits in sides.values())


def test_copies_of_pictures_without_a_patient_stay_together(make_folder: Any) -> None:
    suffixes = ("", " (1)", " - Copy", "_aug_1", "_jpg.rf.0123456789abcdef0123456789abcdef")
    root = _folder(make_folder, lambda p, i: f"scan{p}{suffixes[i]}.jpeg", lambda p, i: f"film{p}{suffixes[i]}.jpeg")
    manifest = _split(root)
    assert manifest.counts["val"] == {"NORMAL": 10, "PNEUMONIA": 10}
    assert "patients unknown" in manifest.rule
    original = lambda name: name.split(".")[0].split("_")[0].split(" ")[0]  # noqa: E731
    assert all(len(splits) == 1 for splits in _sides(manifest, original).values())


def test_the_rule_says_for_how_many_images_the_patient_is_unknown(make_folder: Any, picture: Any) -> None:
    contents = {f"train/NORMAL/IM-{i:04}-0001.png": picture(i, kind="PNG") for i in range(20)}
    contents |= {f"train/PNEUMONIA/film{chr(97 + i)}.png": picture(100 + i, kind="PNG") for i in range(20)}
    root = make_folder(contents)
    rule = _split(root).rule
    assert "whole patients" not in rule
    assert "for 20 of 40 images it is not" in rule
    shown = CliRunner().invoke(app, ["data", "audit", str(root)]).stdout
    assert "Images without a patient in their name: 20" in shown
    assert "for 20 of 40 images it is not" in " ".join(shown.split())


def test_a_pattern_keeps_patients_together_and_other_names_are_read_as_ever(make_folder: Any) -> None:
    root = _folder(make_folder, lambda p, i: f"h{p}x{i}.png", lambda p, i: f"person{p}_virus_{i}.png")
    assert "100 of 200" in _split(root).rule
    manifest = _split(root, r"^h(\d+)x")
    assert manifest.rule == BY_PATIENT
    person = lambda name: name.split("x")[0] if name.startswith("h") else name.split("_")[0]  # noqa: E731
    assert all(len(splits) == 1 for splits in _sides(manifest, person).values())
