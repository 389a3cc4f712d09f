"""Options of `train` that do not go together are refused at once, as wrong usage."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.cli import app


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "the recipe best needs --backbone; give one of mobilenetv2, efficientnetb0, efficientnetlite0"),
        (("--recipe", "quick"), "the recipe quick needs --backbone"),
        (("--backbone", "mobilenetv2", "--epochs", "3"), "--epochs and --images are only for report-* recipes"),
        (("--backbone", "mobilenetv2", "--images", "99"), "--epochs and --images are only for report-* recipes"),
        (
            ("--recipe", "report-mobilenet", "--backbone", "efficientnetb0"),
            "report-mobilenet trains mobilenetv2; omit --backbone, or give that name",
        ),
        (
            ("--recipe", "report-mobilenet", "--image-size", "160"),
            "report-mobilenet sets its own image size and width; omit --image-size and --alpha",
        ),
        (
            ("--backbone", "mobilenetv2", "--alpha", "0.4"),
            "the alpha of MobileNetV2 is 0.4; expected 0.35, 0.5, 0.75, 1, 1.3, 1.4",
        ),
        (("--backbone", "efficientnetb0", "--alpha", "0.5"), "the alpha of EfficientNetB0 is 0.5; expected 1"),
        (("--backbone", "mobilenetv2", "--seeds", "4-0"), "'4-0' is not a list of seeds such as 0-4 or 0,2,5"),
        (("--backbone", "mobilenetv2", "--seeds", "0,,1"), "'0,,1' is not a list of seeds such as 0-4 or 0,2,5"),
        (("--backbone", "mobilenetv2", "--seeds", "0-4000000"), "has more than 1,000 seeds"),
        (("--backbone", "mobilenetv2", "--seeds", "0-4", "--seed", "1"), "--seed and --seeds were both given"),
        (("--backbone", "mobilenetv2", "--backbone", "vgg"), "'vgg' is not one of mobilenetv2"),
        (
            ("--backbone", "mobilenetv2", "--backbone", "resnet50", "--out", "x"),
            "give the folder of a study with --study",
        ),
        (("--backbone", "mobilenetv2", "--backbone", "mobilenetv2"), "the backbones are mobilenetv2, mobilenetv2"),
        (("--study", "x"), "the backbones are none"),
        (("--study", "x", "--backbone", "resnet50", "--epochs", "3"), "are only for report-* recipes"),
        (
            ("--study", "x", "--recipe", "report-mobilenet"),
            "a study trains networks of the table; omit report-mobilenet",
        ),
        (("--study", "x", "--init", "own.keras"), "a study trains networks of the table; omit --init"),
        (
            ("--backbone", "resnet50", "--recipe", "quick", "--devices", "2"),
            "2 devices were given with the recipe quick",
        ),
        (("--recipe", "report-mobilenet", "--devices", "2"), "report-mobilenet trains on one device; omit --devices"),
        (("--study", "x", "--backbone", "resnet50", "--devices", "2"), "--devices is for one network; a study trains"),
        (("--backbone", "resnet50", "--cores", "2"), "--cores, --memory and --address are only for a study"),
        (("--backbone", "resnet50", "--memory", "2"), "'2' is not a number above 0 with one of the units kB"),
        (("--backbone", "mobilenetv2", "--image-size", "64"), "64 is not in the range 96<=x<=512"),
        (("--recipe", "report-train-model2-both"), "is not one of"),
        (("--init", "own.keras"), "no input range was given for own.keras; expected what pixels were scaled to"),
        (("--init", "own.keras", "--input-range", "0-1"), "the input range is '0-1'; expected 0..255, 0..1"),
        (("--input-range", "0..1"), "an input range was given without a network of your own"),
        (
            ("--init", "own.keras", "--input-range", "0..1", "--backbone", "mobilenetv2"),
            "--backbone was given with a network of your own; expected one of the two",
        ),
        (("--init", "own.keras", "--input-range", "0..1", "--weights", "w.h5"), "Omit --weights"),
        (("--init", "own.keras", "--input-range", "0..1", "--epochs", "3"), "are only for report-* recipes"),
        (
            ("--init", "own.keras", "--input-range", "0..1", "--recipe", "report-mobilenet"),
            "report-mobilenet trains its own network; omit --init and --input-range",
        ),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "--data", str(tmp_path), *options])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("options", [(), ("--backbone", "mobilenetv2")])
def test_a_report_recipe_has_its_backbone(options: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "--data", str(tmp_path), "--recipe", "report-mobilenet", *options])
    assert done.exit_code == 3
    assert "has no data set" in done.stderr
