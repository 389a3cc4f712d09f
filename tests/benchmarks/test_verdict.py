from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumo_edge._util import markdown
from pneumo_edge.benchmarks import claims, sentences, verdict
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import LatencySamples, MemorySample, Results
from pneumo_edge.benchmarks.summary import Row, summarise
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict
from pneumo_edge.evaluation.comparison import compare_auc
from tests.present import present

MakeResults = Callable[..., Results]


def decide(results: Results) -> BenchmarkVerdict:
    return verdict.decide(summarise(results))


def outcomes(results: Results) -> dict[tuple[str, str], str]:
    """Outcome by property and format."""
    return {(claim.property, claim.subject.model.format): claim.outcome for claim in decide(results).claims}


def evidence(results: Results, name: str, file_format: str) -> str:
    (claim,) = [
        claim for claim in decide(results).claims if (claim.property, claim.subject.model.format) == (name, file_format)
    ]
    return sentences.evidence(claim.property, claim.evidence)


def with_units(results: Results, change: Callable[[str], dict[str, Any]]) -> Results:
    """Fields of units replaced, by the name of the file."""
    return replace(results, units=tuple(replace(unit, **change(unit.unit.model)) for unit in results.units))


def with_noise(results: Results, noise: dict[str, float], seed: int = 0) -> Results:
    """Probabilities of labels and noise: the same noise in all, and so much of its own in each file named."""
    labels = dict(zip((f"test/{i}" for i in range(400)), (i % 2 for i in range(400)), strict=True))
    generator = np.random.default_rng(seed)
    common = np.array(list(labels.values())) + generator.normal(0, 0.5, len(labels))
    test_set = replace(present(results.test_set), labels=labels, patients={name: name for name in labels})

    def scores(file: str) -> dict[str, Any]:
        own = common + noise.get(file, 0.0) * generator.normal(0, 1, len(labels))
        return {"probabilities": dict(zip(labels, (1 / (1 + np.exp(0.5 - own))).tolist(), strict=True))}

    units = tuple(replace(unit, **scores(unit.unit.model)) for unit in results.units)
    return replace(results, test_set=test_set, units=units)


def test_a_faster_backbone_is_called_faster_and_a_slower_one_refutes_the_claim(make_results: MakeResults) -> None:
    def at(efficientnetb0: float, mobilenetv2: float) -> dict[tuple[str, str], str]:
        speeds = {"efficientnetb0": efficientnetb0, "mobilenetv2": mobilenetv2}
        return outcomes(with_noise(make_results(speeds=speeds), {}))

    assert at(8, 5)["faster", "int8"] == "supported"
    assert at(5, 8)["faster", "int8"] == "refuted"
    same = at(5, 5)
    assert same["faster", "int8"] == same["faster", "fp32"] == "not separable"


def test_the_claims_are_made_for_mobilenet_with_the_ratio_the_right_way_up(make_results: MakeResults) -> None:
    results = make_results(speeds={"efficientnetb0": 10, "mobilenetv2": 5})
    assert {claim.subject.model.backbone for claim in decide(results).claims} == {"mobilenetv2"}
    assert evidence(results, "faster", "fp32").startswith(("1.9", "2.0"))


@pytest.mark.parametrize(("slow", "outcome"), [("efficientnetb0", "supported"), ("mobilenetv2", "refuted")])
def test_an_invalid_run_cannot_win_but_can_lose(make_results: MakeResults, slow: str, outcome: str) -> None:
    """Cut the calls of one of two backbones short."""
    results = make_results(speeds={"efficientnetb0": 5, "mobilenetv2": 5} | {slow: 9})

    def cut(of: str) -> Results:
        def change(file: str) -> dict[str, Any]:
            unit = next(unit for unit in results.units if unit.unit.model == file)
            if not file.startswith(of):
                return {}
            return {
                "latency": tuple(
                    replace(
                        each,
                        inference=replace(
                            each.inference,
                            rounds=each.inference.rounds[:5],
                            wall_ns=each.inference.wall_ns[:5],
                            cpu_ns=present(each.inference.cpu_ns)[:5],
                        ),
                    )
                    for each in unit.latency
                )
            }

        return with_units(results, change)

    fast = "mobilenetv2" if slow == "efficientnetb0" else "efficientnetb0"
    assert outcomes(results)["faster", "fp32"] == outcome
    assert outcomes(cut(slow))["faster", "fp32"] == outcome
    assert outcomes(cut(fast))["faster", "fp32"] == "not separable"
    assert f"{fast}-fp32.tflite cannot be called faster: not enough was timed (50 of at least 64" in evidence(
        cut(fast), "faster", "fp32"
    )


def test_few_processes_settle_no_speed(make_results: MakeResults) -> None:
    results = make_results(speeds={"efficientnetb0": 80, "mobilenetv2": 40}, processes=3)
    assert outcomes(results)["faster", "fp32"] == "not separable"
    assert "3 of at least 10 processes" in evidence(results, "faster", "fp32")
    assert decide(results).pareto == ()
    assert outcomes(results)["smaller", "fp32"] == "refuted"  # equal sizes are no matter of evidence


def test_a_difference_below_the_noise_of_the_machine_is_none(make_results: MakeResults) -> None:
    results = make_results(speeds={"efficientnetb0": 5.5, "mobilenetv2": 5})
    assert outcomes(results)["faster", "fp32"] == "supported"
    slower = tuple(
        replace(
            each,
            inference=replace(each.inference, cpu_ns=tuple(int(1.2 * ns) for ns in present(each.inference.cpu_ns))),
        )
        for each in results.twins[0].latency
    )
    noisy = replace(results, twins=(replace(results.twins[0], latency=slower),))
    assert outcomes(noisy)["faster", "fp32"] == "not separable"
    assert not summarise(noisy).null_tests[0].passed


def test_size_and_memory_are_compared_as_they_are(make_results: MakeResults) -> None:
    results = with_noise(make_results(), {})
    models = tuple(
        replace(model, size_bytes=model.size_bytes + (10 if model.backbone == "efficientnetb0" else 0))
        for model in results.models
    )
    assert outcomes(replace(results, models=models))["smaller", "int8"] == "supported"
    assert outcomes(results)["smaller", "int8"] == "refuted"

    heavy = tuple(MemorySample(50 * 2**20, (90 + each) * 2**20) for each in range(3))
    for backbone, outcome in (("efficientnetb0", "supported"), ("mobilenetv2", "refuted")):
        changed = with_units(results, lambda file, b=backbone: {"memory": heavy} if file.startswith(b) else {})  # type: ignore[misc]
        assert outcomes(changed)["lighter in memory", "fp32"] == outcome
    assert outcomes(results)["lighter in memory", "fp32"] == "not separable"


def test_accuracy_is_as_good_worse_or_not_known(make_results: MakeResults) -> None:
    results = make_results()
    alike = with_noise(results, {})
    assert outcomes(alike)["as accurate", "fp32"] == "supported"
    assert outcomes(alike)["faster and as accurate", "fp32"] == "supported"
    worse = with_noise(results, {"mobilenetv2-fp32.tflite": 1.0})
    assert outcomes(worse)["as accurate", "fp32"] == "refuted"
    assert outcomes(worse)["faster", "fp32"] == "supported"
    assert outcomes(worse)["faster and as accurate", "fp32"] == "refuted"
    unclear = with_noise(results, {"mobilenetv2-fp32.tflite": 0.35, "efficientnetb0-fp32.tflite": 0.35})
    assert outcomes(unclear)["as accurate", "fp32"] == "not separable"


@given(seed=st.integers(0, 50), noise=st.floats(0, 0.5), favour=st.sampled_from(["mobilenetv2", "efficientnetb0"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=6)
def test_as_accurate_goes_by_the_margin_at_both_ends(
    make_results: MakeResults, seed: int, noise: float, favour: str
) -> None:
    results = with_noise(make_results(), {f"{favour}-fp32.tflite": noise}, seed)
    found = evidence(results, "as accurate", "fp32")
    low, high = map(float, re.match(r"AUC \S+ \[(\S+), (\S+)\]", found).groups())  # type: ignore[union-attr]
    outcome = outcomes(results)["as accurate", "fp32"]
    # The evidence is printed with three digits.
    if abs(low + 0.01) > 0.0006 and abs(high + 0.01) > 0.0006:
        assert outcome == ("supported" if low > -0.01 else "refuted" if high < -0.01 else "not separable")


@pytest.mark.parametrize("images", [2, 20, 99])
def test_few_images_settle_nothing_of_accuracy(make_results: MakeResults, images: int) -> None:
    results = few_images(with_noise(make_results(), {"mobilenetv2-int8.tflite": 0.2}), 2 * images)
    found = outcomes(results)
    for name, file_format in (
        ("as accurate", "fp32"),
        ("as accurate", "int8"),
        ("keeps more AUC when quantized", "int8"),
    ):
        assert found[name, file_format] == "not separable"
        said = evidence(results, name, file_format)
        # The patients of these images are not known.
        assert f"too few test images: {images} in the smaller class" in said
        assert not re.search(r"\[([+-]\S+), \1\]", said)  # an interval without width
    for row in summarise(results).rows:
        assert present(row.accuracy).auc.low < present(row.accuracy).auc.high
    # Speed does not depend on them.
    assert found["faster", "fp32"] == "supported"


def test_many_images_of_few_patients_settle_nothing_of_accuracy(make_results: MakeResults) -> None:
    results = with_noise(make_results(), {})
    patients = {name: str(index % 40) for index, name in enumerate(present(results.test_set).labels)}
    results = replace(results, test_set=replace(present(results.test_set), patients=patients))
    assert outcomes(results)["as accurate", "fp32"] == "not separable"
    assert "200 of 20 patients" in evidence(results, "as accurate", "fp32")


def few_images(results: Results, images: int) -> Results:
    """The first test images alone."""
    labels = dict(list(present(results.test_set).labels.items())[:images])
    test_set = replace(present(results.test_set), labels=labels, patients={name: name for name in labels})
    units = tuple(
        replace(unit, probabilities={name: unit.probabilities[name] for name in labels}) for unit in results.units
    )
    return replace(results, test_set=test_set, units=units)


def with_threads(results: Results, cpu: dict[str, float], threads: int = 2) -> Results:
    """The same with several threads, and so many times the CPU time in each file named."""

    def busy(latency: tuple[LatencySamples, ...], times: float) -> tuple[LatencySamples, ...]:
        return tuple(
            replace(
                each,
                inference=replace(
                    each.inference, cpu_ns=tuple(int(times * ns) for ns in present(each.inference.cpu_ns))
                ),
            )
            for each in latency
        )

    units = tuple(
        replace(
            unit, unit=replace(unit.unit, threads=threads), latency=busy(unit.latency, cpu.get(unit.unit.model, 1.0))
        )
        for unit in results.units
    )
    twins = tuple(replace(twin, unit=replace(twin.unit, threads=threads)) for twin in results.twins)
    return replace(results, units=units, twins=twins)


def test_the_subject_of_a_claim_is_never_chosen_by_the_alphabet(make_results: MakeResults) -> None:
    """A third backbone is compared with the reference, for any order of their names."""
    for third in ("aardvark", "zebra"):
        results = make_results(speeds={"efficientnetb0": 8, "mobilenetv2": 4, third: 2})
        pairs = {(claim.subject.model.backbone, claim.other.model.backbone) for claim in decide(results).claims}
        assert pairs == {("mobilenetv2", "efficientnetb0"), (third, "efficientnetb0")}
        told = markdown.render(compose(gather([summarise(results)])))
        assert "These pairs are compared: every other backbone against EfficientNetB0." in told
    without = make_results(speeds={"mobilenetv2": 8, "zebra": 4})
    assert decide(without).claims == ()
    told = markdown.render(compose(gather([summarise(without)])))
    assert "No claim was decided. Claims compare every other backbone against EfficientNetB0" in told


def test_a_claim_is_added_by_one_record(make_results: MakeResults, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new row of the table of claims is enough for the decision, the report and the evidence."""
    results = make_results(speeds={"mobilenetv2": 8, "zebra": 4})
    added = claims.AskedClaim("zebra", "mobilenetv2", "faster", margin=0.05)
    monkeypatch.setattr(claims, "CLAIMS", (*claims.CLAIMS, added))
    (claim, _) = decide(results).claims
    assert (claim.subject.model.backbone, claim.other.model.backbone) == ("zebra", "mobilenetv2")
    assert (claim.property, claim.outcome) == ("faster", "supported")
    told = markdown.render(compose(gather([summarise(results)])))
    assert "zebra's file is faster than MobileNetV2's: supported in both comparisons" in told
    # The record also has the margin.
    monkeypatch.setattr(claims, "CLAIMS", (replace(added, margin=1.5),))
    assert {claim.outcome for claim in decide(results).claims} == {"not separable"}
    # The report tells the margin that was asked, and no rule of a claim that was not.
    told = markdown.render(compose(gather([summarise(results)])))
    assert "The band is 150%, or the noise that a file showed against itself" in told
    assert "As accurate: supported" not in told


def test_with_several_threads_faster_rests_on_wall_time_and_both_times_are_given(make_results: MakeResults) -> None:
    """CPU time that threads spin while they wait turns the order of CPU times around."""
    results = make_results(speeds={"efficientnetb0": 8, "mobilenetv2": 5})
    spinning = with_threads(results, {"mobilenetv2-fp32.tflite": 4.0})
    assert outcomes(spinning)["faster", "fp32"] == "supported"
    (claim,) = [
        each for each in decide(spinning).claims if (each.property, each.subject.model.format) == ("faster", "fp32")
    ]
    assert claim.effect == claim.by_clock["wall"] == pytest.approx(1.6, rel=0.05)
    assert claim.by_clock["cpu"] == pytest.approx(0.4, rel=0.05)
    assert re.search(
        r"1\.\d\d times as fast \[.*?\] in wall time \(0\.\d\d \[.*?\] in CPU time\)",
        evidence(spinning, "faster", "fp32"),
    )
    # At one thread it is CPU time that decides.
    assert outcomes(with_threads(results, {"mobilenetv2-fp32.tflite": 4.0}, threads=1))["faster", "fp32"] == "refuted"


def test_without_an_aa_unit_nothing_is_settled_of_time(make_results: MakeResults) -> None:
    results = replace(make_results(speeds={"efficientnetb0": 80, "mobilenetv2": 4}), twins=())
    assert outcomes(results)["faster", "fp32"] == "not separable"
    assert "no A/A unit, so the noise is unknown" in evidence(results, "faster", "fp32")


def test_every_claim_is_about_files_and_says_of_how_many_trainings(make_results: MakeResults) -> None:
    results = make_results()
    assert summarise(results).trainings == {"efficientnetb0": 1, "mobilenetv2": 1}
    told = markdown.render(compose(gather([summarise(results)])))
    assert "One training of each backbone was measured. Every claim is about the two files that it compares" in told
    assert "- MobileNetV2's file is faster than EfficientNetB0's: " in told
    assert "- MobileNetV2 is faster" not in told
    # A second training of one of them.
    again = [
        replace(each, model=f"seed-1/{each.model}") for each in (unit.unit for unit in results.units) if each.model
    ]
    models = tuple(replace(model, file=f"seed-1/{model.file}", sha256="1" * 64) for model in results.models)
    units = tuple(replace(unit, unit=each) for unit, each in zip(results.units, again, strict=True))
    more = replace(results, models=(*results.models, *models), units=(*results.units, *units))
    assert summarise(more).trainings == {"efficientnetb0": 2, "mobilenetv2": 2}
    told = markdown.render(compose(gather([summarise(more)])))
    assert "Trainings measured: 2 of EfficientNetB0, 2 of MobileNetV2. Every claim is about the two files" in told


def test_the_tests_of_accuracy_are_paired_and_by_patient(make_results: MakeResults) -> None:
    results = with_noise(make_results(), {"mobilenetv2-fp32.tflite": 0.5})
    one, other = (
        next(unit for unit in results.units if unit.unit.model == f"{backbone}-fp32.tflite")
        for backbone in ("mobilenetv2", "efficientnetb0")
    )
    labels = np.array(list(present(results.test_set).labels.values()))
    scores = [
        np.array([unit.probabilities[name] for name in present(results.test_set).labels]) for unit in (one, other)
    ]
    expected = compare_auc(labels, *scores)
    said = evidence(results, "as accurate", "fp32")
    assert f"AUC {expected.difference.value:+.3f}" in said
    assert ("p < 0.001" if expected.p is not None and expected.p < 0.001 else f"p = {expected.p:.3f}") in said
    # Fewer patients, each with many images: the interval is another.
    patients = {name: str(index % 20) for index, name in enumerate(present(results.test_set).labels)}
    grouped = replace(results, test_set=replace(present(results.test_set), patients=patients))
    assert evidence(grouped, "as accurate", "fp32") != said


def test_a_file_that_misses_its_accuracy_target_is_not_ranked(make_results: MakeResults) -> None:
    results = with_noise(make_results(), {"mobilenetv2-int8.tflite": 1.0})
    decided = decide(results)
    # It is faster, and it is not eligible: both are known.
    assert outcomes(results)["faster", "int8"] == "supported"
    for claim in decided.claims:
        missed = [row.model.file for row, _ in claim.ineligible]
        of_both = claim.property in ("as accurate", "keeps more AUC when quantized")
        assert missed == (["mobilenetv2-int8.tflite"] if claim.subject.model.format == "int8" and not of_both else [])
        assert all(
            sentences.missed_gate(gate).startswith("misses its accuracy target: AUC ") for _, gate in claim.ineligible
        )
    assert [row.model.file for row, _ in decided.unranked] == ["mobilenetv2-int8.tflite"]
    assert "mobilenetv2-int8.tflite" not in [row.model.file for row in decided.pareto]
    assert outcomes(results)["faster", "fp32"] == "supported"


def test_what_quantization_costs_is_compared_between_the_backbones(make_results: MakeResults) -> None:
    for file, outcome in (("efficientnetb0-int8.tflite", "supported"), ("mobilenetv2-int8.tflite", "refuted")):
        assert outcomes(with_noise(make_results(), {file: 0.6}))["keeps more AUC when quantized", "int8"] == outcome
    alike = outcomes(with_noise(make_results(), {}))
    assert alike["keeps more AUC when quantized", "int8"] == "not separable"
    assert ("keeps more AUC when quantized", "fp32") not in alike


@pytest.mark.parametrize("kind", [{"real": False}, {"initial_weights": "random"}])
def test_of_accuracies_that_mean_nothing_nothing_is_claimed(make_results: MakeResults, kind: dict[str, Any]) -> None:
    claimed = {name for name, _ in outcomes(make_results(**kind))}
    assert claimed == {"faster", "smaller", "lighter in memory"}


def test_a_claim_that_does_not_depend_on_threads_is_made_once(make_results: MakeResults) -> None:
    results = make_results()
    more = tuple(replace(unit, unit=replace(unit.unit, threads=2)) for unit in results.units)
    twins = (*results.twins, replace(results.twins[0], unit=replace(results.twins[0].unit, threads=2)))
    claims = decide(replace(results, units=(*results.units, *more), twins=twins)).claims
    count = {name: sum(claim.property == name for claim in claims) for name in ("smaller", "as accurate", "faster")}
    assert count == {"smaller": 2, "as accurate": 2, "faster": 4}


@pytest.fixture
def rows(make_results: MakeResults) -> tuple[Row, ...]:
    return summarise(make_results()).rows


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=8))
def test_the_pareto_front_is_what_nothing_dominates(costs: list[tuple[int, ...]]) -> None:
    front = verdict.non_dominated(costs)
    for index, cost in enumerate(costs):
        beaten = any(
            all(a <= b for a, b in zip(other, cost, strict=True))
            and any(a < b for a, b in zip(other, cost, strict=True))
            for other in costs
        )
        assert (index in front) != beaten


def test_the_front_looks_at_all_four(rows: tuple[Row, ...]) -> None:
    worst = rows[0]
    assert verdict.pareto([worst, worst]) == (worst, worst)
    for better in (
        replace(worst, model=replace(worst.model, size_bytes=1)),
        replace(worst, memory_bytes=(1, 1, 1)),
        replace(worst, inference=replace(worst.inference, median_ms=0.1)),
        replace(
            worst, accuracy=replace(present(worst.accuracy), auc=replace(present(worst.accuracy).auc, value=0.999))
        ),
    ):
        assert verdict.pareto([worst, better]) == (better,)
