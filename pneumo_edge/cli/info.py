"""``pneumo-edge info``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options
from pneumo_edge.errors import ModelFileError, printable
from pneumo_edge.runtime.engines import usual_engines_for

#: Characters of a text from a file's metadata that are printed.
_MAX_TEXT = 200

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pneumo_edge.runtime.engines.graph import Graph
    from pneumo_edge.runtime.engines.inspection import EngineReport, Inspection
    from pneumo_edge.runtime.engines.tensors import TensorInfo
    from pneumo_edge.spec import InputSpec, MixedPrecisionSpec, ModelSpec


def info(
    model: Annotated[str, typer.Argument(help=options.MODEL_HELP)] = bundled.DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON: ModelSpec, graph, engines.")] = False,
    input_shape: options.InputShapes = None,
    input_value: options.InputValues = None,
) -> None:
    """Print a model file's inputs, operators, size and metadata, and what each engine delegates.

    It reads any .tflite or .onnx file, from any tool. For files made by
    pneumo-edge it also prints classes, threshold, training and verification.
    """
    from pneumo_edge.runtime.engines.inspection import inspect
    from pneumo_edge.runtime.pixels import shape
    from pneumo_edge.spec import read_metadata
    from pneumo_edge.spec.reading import find

    path = bundled.find(model)
    spec = find(path)
    given = options.given_inputs(input_shape, input_value)
    if spec and spec.is_adopted:
        # Its graph may take images of any size; it was adopted for one.
        given = replace(given, shapes={spec.input.name: shape(spec.input)} | given.shapes)
    inspection = inspect(path, given)
    if not spec:
        _check_loads(path, inspection)
    metadata = {} if spec else read_metadata(path)
    if as_json:
        told = asdict(spec) if spec else {"metadata": metadata}
        typer.echo(json.dumps({**told, **asdict(inspection)}, indent=2, allow_nan=False))
        return
    rows = _spec_rows(path, spec, inspection) if spec else _rows(path, metadata, inspection)
    width = max(map(len, rows))
    for key, value in rows.items():
        typer.echo(f"{printable(key):<{width}}  {printable(value)}")


def _check_loads(path: Path, inspection: Inspection) -> None:
    """Refuse a file without a ModelSpec that no engine loads: it may be damaged."""
    if inspection.engines and not inspection.input_tensors:
        reasons = dict.fromkeys(str(report.error).partition("; expected ")[0] for report in inspection.engines.values())
        raise ModelFileError(
            f"{path} has no ModelSpec: it was made by another tool or is truncated; {'; '.join(reasons)}",
            "a file made by `pneumo-edge export`, or one that an engine here loads",
            "Copy it again, or export the model with pneumo-edge",
        )


def _spec_rows(path: Path, spec: ModelSpec, inspection: Inspection) -> dict[str, str]:
    """Of a file with a ModelSpec."""
    rows = {
        "name": spec.name,
        "file": _size(path),
        **_graph_rows(path, inspection),
        **_decision_rows(spec),
        **_scores_rows(path, spec),
        **_training_rows(spec),
        **_integrity_rows(spec),
        **_calibration_rows(spec),
        **_verification_rows(path.name, spec),
        **_engine_rows(inspection),
        "versions": ", ".join(f"{name} {version}" for name, version in spec.versions.items()),
    }
    if not spec.data.real:
        rows["NOTE"] = spec.data_remark
    return rows | {"notice": spec.notice}


def _rows(path: Path, metadata: Mapping[str, str], inspection: Inspection) -> dict[str, str]:
    """Of any other file."""
    return {
        "file": f"{path.name}, {_size(path)}",
        "ModelSpec": "none: the file was not made by pneumo-edge; `pneumo-edge benchmark` times it",
        **_tensor_rows("input", inspection.input_tensors),
        **_tensor_rows("output", inspection.output_tensors),
        **_graph_rows(path, inspection),
        **_engine_rows(inspection),
        **{f"metadata: {name}": _on_one_line(text) for name, text in metadata.items()},
    }


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def _tensor_rows(what: str, tensors: Sequence[TensorInfo]) -> dict[str, str]:
    return {f"{what} {each.name}": f"{each.shape_text} {each.dtype}{_quantization(each)}" for each in tensors}


def _quantization(tensor: TensorInfo) -> str:
    if tensor.quantization is None:
        return ""
    scale, zero_point = tensor.quantization
    return f", quantized: scale {scale:.6g}, zero point {zero_point}"


def _on_one_line(text: str) -> str:
    """A text from a file, cut where it is long."""
    line = ", ".join(filter(None, (part.strip() for part in text.splitlines())))
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]} ... ({len(text):,} characters)"


def _decision_rows(spec: ModelSpec) -> dict[str, str]:
    return {
        "classes": ", ".join(spec.class_names),
        "input": _input_text(spec.input),
        **_threshold_rows(spec),
        "uncertain": _uncertain_text(spec),
        "out-of-distribution": _input_check_text(spec),
        "temperature": "none: graph and weights are as the other tool wrote them"
        if spec.is_adopted
        else f"{spec.temperature:.3f}, inside the graph",
    }


def _scores_rows(path: Path, spec: ModelSpec) -> dict[str, str]:
    """What the output of an adopted file was taken for, and the operator that it comes from."""
    from pneumo_edge.runtime.engines import last_operator
    from pneumo_edge.spec import suffix_of
    from pneumo_edge.spec.reading import read_content

    if not spec.is_adopted:
        return {}
    last = last_operator.find(read_content(path), suffix_of(path))
    return {"scores": f"{spec.scores}{f'; the graph ends in {last}' if last is not None else ''}"}


def _input_text(taken: InputSpec) -> str:
    from pneumo_edge.runtime.engines.tensors import shape_text
    from pneumo_edge.runtime.pixels import shape

    sizes, scaling = shape_text(shape(taken)), taken.scaling
    if scaling is None:
        return f"{taken.dtype} pixels {taken.minimum} to {taken.maximum}, {sizes}"
    ranges = [
        f"{taken.minimum * scale + offset:.4g}..{taken.maximum * scale + offset:.4g}"
        for scale, offset in zip(scaling.scale, scaling.offset, strict=True)
    ]
    shown = ranges[0] if len(set(ranges)) == 1 else f"{', '.join(ranges)} by channel"
    text = f"{taken.dtype} {sizes}; the device scales pixels {taken.minimum} to {taken.maximum} to {shown}"
    return text if scaling.step is None else f"{text}, then by {scaling.step:.6g}, zero point {scaling.zero_point}"


def _threshold_rows(spec: ModelSpec) -> dict[str, str]:
    decision = spec.decision
    if decision.threshold is None:
        return {"decision": "the most probable class"}
    return {
        "decision": f"{decision.positive_class} if its probability is at least {decision.threshold:.4f}",
        "threshold by": f"{decision.rule}; {decision.chosen_on}",
    }


def _training_rows(spec: ModelSpec) -> dict[str, str]:
    training = spec.training
    if spec.is_trained_elsewhere:
        rows = {"measured on": _split_text(spec, "val", "validation images"), "weights": training.initial_weights}
    else:
        rows = {
            "trained on": _split_text(spec, "train", "images"),
            "training": f"recipe {training.recipe}, seed {training.seed}, {training.epochs} epochs",
            "initial weights": training.initial_weights,
        }
    return rows | {
        "validation": ", ".join(f"{name} {value:.4f}" for name, value in spec.training.validation.items()),
        "drift": _drift_text(spec),
        "data licence": spec.data.licence,
    }


def _drift_text(spec: ModelSpec) -> str:
    described = spec.validation_distribution
    if described is None:
        return "not measured by `score`: the file has no distribution of its validation answers"
    images = sum(next(iter(described.probabilities.values())).counts)
    what = "probabilities" if described.distance is None else "probabilities and distances"
    return f"measured by `score` against the {what} of {images:,} images ({described.chosen_on})"


def _split_text(spec: ModelSpec, split: str, images: str) -> str:
    count = sum(spec.data.counts.get(split, {}).values())
    return f"{spec.data.name}, {count} {images} (split {spec.data.fingerprint[:12]})"


def _integrity_rows(spec: ModelSpec) -> dict[str, str]:
    if not spec.model_sha256:
        return {}
    return {"integrity": f"graph and weights match the SHA-256 in the file, {spec.model_sha256[:16]}"}


def _calibration_rows(spec: ModelSpec) -> dict[str, str]:
    calibration = spec.calibration
    if not calibration:
        return {}
    text = f"{calibration.images} training images (manifest {calibration.manifest[:12]})"
    if calibration.share < 1:
        text += f", ranges that cover {100 * calibration.share:.10g}% of a feature map's values"
    if stability := calibration.stability:
        text += (
            f"; calibrated on other images: same decision on {stability['agreement']:.1%} of "
            f"{stability['images']:.0f}, mean difference {stability['mean_difference']:.2g}"
        )
    return {"calibrated on": text, **_mixed_rows(calibration.mixed_precision)}


def _mixed_rows(mixed: MixedPrecisionSpec | None) -> dict[str, str]:
    """Of a file of mixed precision: what is in float32, and why."""
    if mixed is None:
        return {}
    if not mixed.in_float:
        return {"in float32": f"none of {mixed.operators} operators: with all in int8 the file passes"}
    order = "by sensitivity" if mixed.order == "sensitivity" else "of the graph"
    times = ", ".join(f"{name} {value:.2f} ms" for name, value in mixed.milliseconds.items())
    return {
        "in float32": f"{len(mixed.in_float)} of {mixed.operators} operators, the first {order}: "
        f"{', '.join(mixed.in_float)}",
        "int8 alone": f"fails: {mixed.int8_failed}",
        "CPU time": f"{times}, one thread, at the export",
    }


def _verification_rows(file: str, spec: ModelSpec) -> dict[str, str]:
    from pneumo_edge.runtime import verified

    verification = spec.verification
    if not verification:
        return {}
    rows = {"verified on": ", ".join(f"{name} {version}" for name, version in verification.engines.items())}
    if verification.processor:
        rows["verified on"] += f"; {verification.processor}"
    if unverified := verified.remark(file, spec):
        rows["NOT VERIFIED"] = unverified
    for name, measured in verification.measured.items():
        rows[f"  {name}"] = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    return rows


def _uncertain_text(spec: ModelSpec) -> str:
    bounds = spec.conformal
    if bounds is None and spec.is_adopted:
        return "not checked: an adopted file has no prediction sets"
    if bounds is None:
        return "not checked; export the model again to add the check"
    positive = spec.decision.positive_class
    patients = ", ".join(f"{count} {name}" for name, count in bounds.patients.items())
    if bounds.least is not None:
        ends = ", ".join(f"{name} at probabilities from {least:.4f}" for name, least in bounds.least.items())
    else:
        (negative,) = (name for name in spec.class_names if name != positive)
        ends = (
            f"{positive} at probabilities from {bounds.least_positive:.4f}, {negative} up to {bounds.most_negative:.4f}"
        )
    text = (
        f"if the prediction set is not just the label. It contains {ends}. It contains the true class for "
        f"{bounds.coverage:.0%} of the images of each class ({bounds.chosen_on}; patients: {patients})"
    )
    if bounds.counterfactual_coverage is not None:
        text += f", and for {bounds.counterfactual_coverage:.0%} of those changed as in counterfactual validation"
    if bounds.nearest is not None:
        text += f". It contains both classes for the {bounds.nearest:.0%} of these images nearest to the threshold"
    return text


def _input_check_text(spec: ModelSpec) -> str:
    check = spec.input_check
    if check is None and spec.is_adopted:
        return "not checked: any image is classified; an adopted file has no input check"
    if check is None:
        why = (
            "no layer of the network gives the features that the check takes"
            if spec.is_trained_elsewhere
            else "export the model again to add the check"
        )
        return f"not checked: every image gets an answer, with or without a chest; {why}"
    return (
        f"an image at a distance of more than {check.limit:.3f} from the training images, by {len(check.mean)} "
        f"features; {check.share:.0%} of images like those are nearer ({check.chosen_on})"
    )


def _graph_rows(path: Path, inspection: Inspection) -> dict[str, str]:
    graph = inspection.graph
    if inspection.graph_error:
        return {"graph": f"not read: {inspection.graph_error}"}
    if graph is None and inspection.engines:
        return {"graph": "not read: no engine here loads the file"}
    if graph is None:
        libraries = " or ".join(row.library for row in usual_engines_for(path))
        return {"graph": f"not read; install an engine that runs the file: {libraries}"}
    return {
        "operators": ", ".join(f"{name} {count}" for name, count in graph.operators.items()),
        "parameters": f"{graph.parameters:,}, weights and biases",
        "multiply-adds": f"{graph.multiply_adds:,} for one image",
    }


def _engine_rows(inspection: Inspection) -> dict[str, str]:
    return {f"on {name}": _engine_text(report, inspection.graph) for name, report in inspection.engines.items()}


def _engine_text(report: EngineReport, graph: Graph | None) -> str:
    delegation = report.delegation
    if delegation is None:
        return str(report.error)
    if graph is None:
        return f"{report.version}, loads the file"
    if not delegation.partitions:
        return f"{report.version}, no operators delegated"
    taken = sum(delegation.operators.values())
    each = ", ".join(
        f"{name} {delegation.operators.get(name, 0)} of {count}" for name, count in graph.operators.items()
    )
    partitions = "1 partition" if delegation.partitions == 1 else f"{delegation.partitions} partitions"
    whole = sum(graph.operators.values())
    return f"{report.version}, {taken} of {whole} operators delegated to {delegation.to} in {partitions}: {each}"
