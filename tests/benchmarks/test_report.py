from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumo_edge._util.document import LAYOUTS, Layout
from pneumo_edge.benchmarks import report
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.report import headline
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import fastest_units, gather
from pneumo_edge.benchmarks.report.sections import claims, tradeoff
from pneumo_edge.benchmarks.results import AAUnit, LatencySamples, Results, UnitResult
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import MissingExtraError
from tests.figures import leave_unrendered
from tests.present import present

MakeResults = Callable[..., Results]


class _Text(HTMLParser):
    """The words of a page outside its style and its script."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.references: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag in ("style", "script")
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words.append(data)


def pages(results: Results, folder: Path, *others: Results, figures: bool = False) -> tuple[str, str, _Text]:
    """The report as Markdown, as a page, and the page's words; figures are rendered where a test looks at them."""
    runs = gather([summarise(each) for each in (results, *others)])
    with pytest.MonkeyPatch.context() as patch:
        if not figures:
            leave_unrendered(patch)
        for name in ("report.html", "report.md"):
            report.write(runs, folder / name)
    page = (folder / "report.html").read_text(encoding="utf-8")
    parser = _Text()
    parser.feed(page)
    return (folder / "report.md").read_text(encoding="utf-8"), page, parser


def test_both_reports_hold_every_number_of_every_unit(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    markdown, _, parsed = pages(results, tmp_path)
    page = " ".join(parsed.words)
    summary = summarise(results)
    for row in tradeoff.main_table(gather([summary])).rows:
        assert f"| {' | '.join(map(str, row))} |" in markdown
        for cell in row:
            assert cell.text in page
            assert cell.detail in page
    for ratio in summary.ratios:
        assert f"{present(ratio.inference).value:.2f}" in page
        assert f"{present(ratio.inference).value:.2f}" in markdown


def test_both_reports_say_what_was_measured_on_what_and_how_to_repeat_it(
    tmp_path: Path, make_results: MakeResults
) -> None:
    results = make_results()
    results = replace(
        results, test_set=replace(present(results.test_set), left_out={"test/broken.png": "it is cut short"})
    )
    markdown, _, parsed = pages(results, tmp_path)
    for text in (markdown, " ".join(parsed.words)):
        for expected in (
            "A processor",
            "2026-01-02 03:04 UTC",
            "correct for 50.0%",
            "other.onnx on onnxruntime: it is not installed",
            "test/broken.png: it is cut short",
            "--threads 1 --preset rapid --processes 10 --seed 0",
            "1.26.4",
            "not a medical device",
        ):
            assert expected in text


def test_the_page_asks_nothing_of_any_network(tmp_path: Path, make_results: MakeResults) -> None:
    _, page, parsed = pages(make_results(), tmp_path, figures=True)
    assert all(reference.startswith("#") for reference in parsed.references)
    assert not re.search(r"https?:|@import|<script |<link", page)
    assert not re.search(r"url\((?!#)", page)


def test_the_figures_label_their_dots_and_name_the_units(tmp_path: Path, make_results: MakeResults) -> None:
    _, page, _ = pages(make_results(), tmp_path, figures=True)
    assert page.count("<svg") == 12
    figures = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    for label in (
        "fp32",
        "int8",
        "litert",
        "EfficientNetB0",
        "MobileNetV2",
        "decode",
        "CPU time, EfficientNetB0 / MobileNetV2",
    ):
        assert f">{label}</text>" in figures
    # Every colour comes from the page, or the figure would not follow it into the dark.
    assert not re.search(r"(fill|stroke): #(?!000000)", figures)


def test_real_images_and_pretrained_weights_carry_no_warning(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    markdown, page, _ = pages(with_many_images(results), tmp_path)
    assert "WARNING" not in markdown
    assert 'class="warning"' not in page
    assert "**Too few test images to compare accuracies.**" in pages(results, tmp_path)[0]


def with_many_images(results: Results) -> Results:
    """As many test images as a claim on accuracy needs."""
    labels = {f"test/{index}": index % 2 for index in range(200)}
    scores = dict(zip(labels, np.random.default_rng(1).uniform(0, 1, 200).tolist(), strict=True))
    test_set = replace(present(results.test_set), labels=labels, patients={name: name for name in labels})
    units = tuple(replace(unit, probabilities=scores) for unit in results.units)
    return replace(results, test_set=test_set, units=units)


def test_every_aa_unit_that_shows_a_difference_is_named(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    (twin,) = results.twins

    def later(share: float) -> tuple[LatencySamples, ...]:
        return tuple(
            replace(
                each, inference=replace(each.inference, wall_ns=tuple(int(share * ns) for ns in each.inference.wall_ns))
            )
            for each in twin.latency
        )

    def on(engine: str, share: float) -> tuple[list[UnitResult], AAUnit]:
        units = [replace(unit, unit=replace(unit.unit, engine=engine)) for unit in results.units]
        return units, replace(twin, unit=replace(twin.unit, engine=engine), latency=later(share))

    pairs = [on("litert", 1.0), on("tflite-runtime", 1.2), on("onnxruntime", 0.8)]
    several = replace(
        results, units=tuple(unit for units, _ in pairs for unit in units), twins=tuple(twin for _, twin in pairs)
    )
    markdown, page, _ = pages(several, tmp_path, figures=True)
    told = "2 of 3 A/A units show a false difference: "
    assert f"{told}tflite-runtime (inference, wall time); onnxruntime (inference, wall time)." in markdown
    assert told in page
    assert "show a false difference" not in pages(results, tmp_path)[0]
    assert "No A/A unit was measured" in pages(replace(results, twins=()), tmp_path)[0]


@pytest.mark.parametrize(
    ("kind", "warning"),
    [
        ({"real": False}, "not real X-rays: the accuracies mean nothing"),
        ({"initial_weights": "random"}, "Random initial weights: the accuracies mean nothing"),
    ],
)
def test_a_warning_stands_before_everything_else(
    tmp_path: Path, make_results: MakeResults, kind: dict[str, object], warning: str
) -> None:
    markdown, _, parsed = pages(make_results(**kind), tmp_path)
    words = " ".join(parsed.words)
    assert words.index(warning) < words.index("The shortest time was that of") < words.index("Inference ms")
    assert markdown.index(warning) < markdown.index("Inference ms")
    # Of files whose accuracies mean nothing, none is recommended.
    assert not headline.headline(gather([summarise(make_results(**kind))])).startswith("Use ")


def test_a_name_from_a_file_cannot_break_out_of_the_page(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    nasty = "<img src=x onerror=alert(1)>|.png"
    results = replace(results, test_set=replace(present(results.test_set), left_out={nasty: "why not"}))
    _, page, parsed = pages(results, tmp_path, figures=True)
    assert "<img" not in page
    assert any(nasty in words for words in parsed.words)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_long_names_leave_a_figure_its_panels(layout: Layout) -> None:
    names = [f"{number}_model_of_another_tool_with_a_long_name_FP16.tflite" for number in range(12)]
    with canvas.draw_grid(["a", "b"], [3.0, 3.0], 2, layout) as (figure, panels):
        for axes in panels:
            canvas.name_places(axes, names)
        canvas.legend(figure, dict.fromkeys(names, ("#000011", "o", True)))
        # matplotlib warns where there is no room, and warnings are errors here.
        drawn = canvas.to_svg(figure, "long")
        assert all(axes.get_position().width > 0.1 for axes in panels)
    assert "0_model" in drawn and "FP16.tflite" in drawn


def test_one_sample_is_enough_for_a_report(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results(speeds={"mobilenetv2": 3.0})
    cut = tuple(
        replace(
            unit,
            latency=tuple(
                replace(
                    process,
                    inference=replace(process.inference, rounds=(0,), wall_ns=(5,), cpu_ns=(5,)),
                )
                for process in unit.latency
            ),
        )
        for unit in results.units
    )
    markdown, _, _ = pages(replace(results, units=cut), tmp_path, figures=True)
    assert "MobileNetV2" in markdown


def test_the_table_of_files_comes_before_the_whole_verdict(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    markdown, _, parsed = pages(results, tmp_path)
    page = " ".join(parsed.words)
    runs = gather([summarise(results)])
    decided = runs[0].verdict
    assert {claim.outcome for claim in decided.claims} >= {"supported", "not separable"}
    for row in claims.evidence_table(runs).rows:
        assert f"| {' | '.join(map(str, row))} |" in markdown
        for cell in row:
            assert cell.text in page
    assert markdown.count("On the Pareto front: ") == len(decided.pareto)
    assert markdown.count("Not ranked: ") > 0
    for text in (markdown, page):
        assert text.index("Use ") < text.index("Accuracy, latency and size") < text.index("Verdict")


def test_the_title_names_x_rays_where_the_classes_are_theirs(make_results: MakeResults) -> None:
    results = make_results()
    assert results.test_set
    pets = replace(results.test_set, class_names=("CAT", "DOG"), positive_class="DOG")
    for test_set, what in ((results.test_set, "Chest X-ray"), (pets, "Image")):
        report_of = compose(gather([summarise(replace(results, test_set=test_set))]))
        assert report_of.title.startswith(f"{what} classifiers on ")


def told(results: Results) -> str:
    return headline.headline(gather([summarise(results)]))


def test_one_sentence_says_which_file_to_use(make_results: MakeResults) -> None:
    results = make_results()
    # In the made results MobileNetV2's int8 file misses its accuracy target, so its fp32 file is the fastest that fits.
    assert re.fullmatch(
        r"Use `mobilenetv2-fp32[.]tflite`: 4[.]\d\d ms per inference on litert, AUC 0[.]\d{3}, 7[.]63 MiB; it is "
        r"2[.]0\d times as fast as `efficientnetb0-fp32[.]tflite` and is as large, with too few test images to compare "
        r"accuracy[.]",
        told(results),
    )
    assert told(with_many_images(results)).endswith(
        (" in accuracy.", " is as accurate within 0.01 of AUC.", " is less accurate by more than 0.01 of AUC.")
    )


def test_the_sentence_claims_no_speed_that_the_run_does_not_show(make_results: MakeResults) -> None:
    results = make_results()
    without_noise = told(replace(results, twins=()))
    assert "is not separable in speed from `efficientnetb0-fp32.tflite`" in without_noise
    assert "times as fast" not in without_noise
    short = told(make_results(processes=1))
    assert "was not timed enough to compare its speed with" in short
    assert "times as fast" not in short


def test_the_sentence_tells_of_other_sets_of_files(make_results: MakeResults) -> None:
    # One backbone: its files are compared with each other.
    alone = told(make_results(speeds={"mobilenetv2": 8.0}))
    assert "`mobilenetv2-int8.tflite`" in alone and "`mobilenetv2-fp32.tflite`" in alone
    # Several: the claims compare with EfficientNetB0, whose file comes before faster ones.
    several = told(make_results(speeds={"efficientnetb0": 8.0, "mobilenetv2": 4.0, "resnet50": 6.0}))
    assert "as fast as `efficientnetb0-fp32.tflite`" in several
    # A single file.
    results = make_results(speeds={"mobilenetv2": 8.0})
    single = told(replace(results, units=results.units[:1], models=results.models[:1], twins=()))
    assert re.fullmatch(r"Use `mobilenetv2-fp32[.]tflite`: [^;]*[.]", single)


def test_only_a_file_that_is_faster_than_each_other_is_called_the_fastest(make_results: MakeResults) -> None:
    def made(**kind: int) -> Results:
        """Without the int8 file of MobileNetV2, which is as fast as its fp32 file here."""
        found = make_results(speeds={"mobilenetv2": 4.0, "efficientnetb0": 8.0}, real=False, **kind)
        return replace(found, units=tuple(unit for unit in found.units if unit.unit.model != "mobilenetv2-int8.tflite"))

    results, short = made(), made(processes=1)
    assert told(results).startswith("The fastest file is `mobilenetv2-fp32.tflite`")
    assert told(short).startswith("The shortest time was that of `mobilenetv2-")

    def only(many: Results) -> str:
        return told(replace(many, units=many.units[:1], models=many.models[:1], twins=()))

    assert re.fullmatch(r"`mobilenetv2-fp32[.]tflite` is the only file: [^;]*[.]", only(results))
    assert only(short).endswith("; it was not timed enough.")
    # Files on two engines were not timed in turns.
    one, other = results.units[0], next(unit for unit in results.units if "efficientnet" in unit.unit.model)
    apart = (one, replace(other, unit=replace(other.unit, engine="onnxruntime")))
    assert told(replace(results, units=apart, twins=())).startswith("The shortest time was that of ")


def test_where_no_file_is_fit_the_sentence_says_so(make_results: MakeResults) -> None:
    results = make_results()
    useless = dict.fromkeys(results.units[0].probabilities, 0.5)
    units = tuple(replace(unit, probabilities=useless) for unit in results.units)
    assert told(replace(results, units=units)).startswith("No file is fit for use: ")


def test_each_file_is_shown_on_its_fastest_unit(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    slower = make_results(speeds={"efficientnetb0": 16.0, "mobilenetv2": 8.0})
    on = "tflite-runtime"
    both = replace(
        results,
        units=(
            *results.units,
            *(replace(unit, unit=replace(unit.unit, engine=on)) for unit in slower.units),
        ),
        conditions=(*results.conditions, *(replace(each, engine=on) for each in results.conditions)),
    )
    (run,) = gather([summarise(both)])
    shown = fastest_units(run)
    assert {row.result.unit.engine for row in shown} == {"litert"}
    assert {row.model.file for row in shown} == {model.file for model in results.models}
    markdown, _, _ = pages(both, tmp_path)
    first, *_ = markdown.split("<details>")
    assert "| litert |" in first and on not in first
    assert "<summary>Every file on every engine: 8 units</summary>" in markdown


def test_a_disturbed_process_and_a_noisy_machine_are_named(tmp_path: Path, make_results: MakeResults) -> None:
    results = make_results()
    conditions = (replace(results.conditions[0], steal_share=0.2), *results.conditions[1:])
    markdown, _, _ = pages(replace(results, conditions=conditions), tmp_path)
    assert "1 of 10 processes were disturbed" in markdown
    assert "- Process 1 of litert: the host took 20.0% of the processor time." in markdown
    assert "| litert | mobilenetv2-int8.tflite | " in markdown


def test_the_csv_has_the_numbers_of_every_unit(tmp_path: Path, make_results: MakeResults) -> None:
    runs = gather([summarise(make_results())])
    report.write(runs, tmp_path / "units.csv")
    with (tmp_path / "units.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    for line, row in zip(lines, runs[0].summary.rows, strict=True):
        assert (line["file"], line["sha256"], line["engine"]) == (row.model.file, row.model.sha256, "litert")
        assert float(line["auc_low"]) == present(row.accuracy).auc.low
        assert float(line["inference_median_ms"]) == row.inference.median_ms
        assert float(line["stage_decode_ms"]) == row.stages_ms["decode"]
        assert float(line["peak_memory_bytes"]) == row.peak_bytes
        assert (line["pareto_front"] == "yes") == (row in runs[0].verdict.pareto)
        assert line["cpu"] == "A processor"


def test_the_command_draws_from_raw_results_alone(tmp_path: Path, make_results: MakeResults) -> None:
    raw.write(tmp_path / "results.json", make_results())
    for name in ("a.md", "a.csv", "a.html"):
        run = CliRunner().invoke(app, ["report", str(tmp_path / "results.json"), "-o", str(tmp_path / name)])
        assert run.exit_code == 0, run.output
        report.write(gather([summarise(make_results())]), tmp_path / f"expected-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"expected-{name}").read_bytes()


def test_the_command_refuses_what_it_cannot_read_or_write(tmp_path: Path, make_results: MakeResults) -> None:
    raw.write(tmp_path / "results.json", make_results())
    assert CliRunner().invoke(app, ["report", str(tmp_path / "results.json"), "-o", "a.pdf"]).exit_code == 2
    assert CliRunner().invoke(app, ["report", str(tmp_path / "none.json")]).exit_code == 3


def test_a_page_without_the_libraries_that_draw_names_their_extra(
    tmp_path: Path, make_results: MakeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    runs = gather([summarise(make_results())])
    report.write(runs, tmp_path / "a.md")
    with pytest.raises(MissingExtraError, match=r'pip install "pneumo-edge\[report\]"'):
        report.write(runs, tmp_path / "a.html")


def test_several_runs_stand_side_by_side(tmp_path: Path, make_results: MakeResults) -> None:
    """The same units on a machine that is twice as fast, but for one backbone."""
    first = make_results()
    second = make_results(speeds={"efficientnetb0": 4.0, "mobilenetv2": 6.0})
    second = replace(second, machine=replace(second.machine, cpu="Another processor"))
    for name, results in (("a.json", first), ("b.json", second)):
        raw.write(tmp_path / name, results)
    for name in ("both.md", "both.html", "both.csv"):
        run = CliRunner().invoke(
            app, ["report", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "-o", str(tmp_path / name)]
        )
        assert run.exit_code == 0, run.output
    markdown = (tmp_path / "both.md").read_text(encoding="utf-8")
    assert "Run A: 4 model files, 4 units (file, engine and threads); 40 test images (20 NORMAL, 20 PNEUMONIA); A " in (
        markdown
    )
    assert re.search(r"Run B: [^.]*; Another processor, 2 cores; 2026-01-02[.]", markdown)
    assert "Use `mobilenetv2-fp32.tflite` in run A (4.40 ms per inference) and `efficientnetb0-" in markdown
    # In the made results MobileNetV2's int8 file misses its accuracy target: it is faster, and not eligible.
    assert (
        "- MobileNetV2's file is faster than EfficientNetB0's: in run A supported in both comparisons (2.01 times as "
        "fast; not eligible among them: int8); in run B refuted in both comparisons (0.67 times as fast; not eligible "
        "among them: int8)."
    ) in markdown
    assert re.search(
        r"\d+ claims can be compared between runs: \d+ have the same outcome in all runs, 2 have opposite outcomes",
        markdown,
    )
    assert "## Comparison of runs" in markdown
    # A unit's rows stand next to each other.
    letters = [row[3].text for row in tradeoff.main_table(gather([summarise(first), summarise(second)])).rows]
    assert letters == ["A", "B"] * 4
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert ">A: litert</text>" in page
    assert ">B: litert</text>" in page
    with (tmp_path / "both.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert {(line["run"], line["cpu"]) for line in lines} == {("A", "A processor"), ("B", "Another processor")}


def test_runs_without_a_common_unit_still_make_a_report(tmp_path: Path, make_results: MakeResults) -> None:
    markdown, _, _ = pages(
        make_results(speeds={"mobilenetv2": 3.0}), tmp_path, make_results(speeds={"efficientnetb0": 3.0})
    )
    assert "They have no unit in common." in markdown
    assert "No claim was decided" in markdown
