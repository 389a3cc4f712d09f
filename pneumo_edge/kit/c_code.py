"""Constants of a model and its test vectors as C, for the port in C; and the model file as an array."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pneumo_edge.kit.documents import DecisionCase, KitVectors
from pneumo_edge.runtime import engines, pixels
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import COMPONENTS, PROBABILITY, ModelSpec

_ELEMENTS = {"float32": "float", "uint8": "uint8_t", "int8": "int8_t"}
#: Numbers on a line.
_BY_LINE = 12
_COMMA = ",\n  "


def model_header(classifier: Classifier, vectors: KitVectors) -> str:
    """``model.h``: what a port in C must know of the model."""
    spec = classifier.spec
    size, decision, check = spec.input, spec.decision, spec.input_check
    shape = pixels.shape(size)
    graph = engines.load_any(
        classifier.path, engines.choose(classifier.path, classifier.engine.name), 1, Given({"": shape})
    )
    outputs = {PROBABILITY: spec.score_count, **{output.name: output.size for output in spec.outputs}}
    sizes = [outputs[name] for name in vectors.outputs]
    positive = -1 if decision.positive_class is None else spec.class_names.index(decision.positive_class)
    lines = [
        f"/* Constants of {_comment(spec.name)}, written by `pneumo-edge kit`. {_comment(spec.notice)} */",
        "#ifndef PE_MODEL_H\n#define PE_MODEL_H\n\n#include <stdint.h>\n",
        f"typedef {_ELEMENTS[size.dtype]} pe_element;\n",
        f"#define PE_MODEL {_text(vectors.model)}",
        f"#define PE_INPUT_NAME {_text(graph.inputs[0].name)}",
        f"#define PE_CLASSES {len(spec.class_names)}",
        f"#define PE_WIDTH {size.width}\n#define PE_HEIGHT {size.height}\n#define PE_CHANNELS {size.channels}",
        f"#define PE_CHANNELS_FIRST {int(size.layout == 'nchw')}",
        "#define PE_TENSOR_SIZE (PE_WIDTH * PE_HEIGHT * PE_CHANNELS)",
        f"#define PE_SCORES {spec.score_count}",
        f"#define PE_ARE_LOGITS {int(spec.scores in ('logits', 'logit'))}",
        "/* The place of the positive class; -1: the most probable class is the answer. */",
        f"#define PE_POSITIVE ({positive})",
        f"#define PE_THRESHOLD {decision.threshold or 0.0!r}",
        f"#define PE_OUTPUTS {len(sizes)}",
        f"#define PE_HAS_SETS {int(spec.conformal is not None)}",
        f"#define PE_COMPONENTS {len(check.mean) if check else 0}",
        "",
        _array("int64_t", "PE_SHAPE[4]", map(str, shape)),
        "/* As JSON has them. */",
        _array("char *const", "PE_NAMES[PE_CLASSES]", (_text(json.dumps(name)) for name in spec.class_names)),
        _array("char *const", "PE_OUTPUT_NAMES[PE_OUTPUTS]", map(_text, vectors.outputs)),
        _array("char *const", "PE_GRAPH_OUTPUTS[PE_OUTPUTS]", (_text(each.name) for each in graph.outputs)),
        _array("int", "PE_OUTPUT_SIZES[PE_OUTPUTS]", map(str, sizes)),
        "/* By class: the least probability at which it is in the set; of the negative one, the other's greatest. */",
        _array("double", "PE_SET_BOUNDS[PE_CLASSES]", map(repr, _set_bounds(spec))),
        "/* What the model gets for each value of a pixel, by channel. */",
        f"static const pe_element PE_VALUES[PE_CHANNELS][256] = {{{', '.join(_values(vectors))}}};",
    ]
    if check:
        lines += [
            f"#define PE_LIMIT {check.limit!r}\n#define PE_PARTS {len(check.parts)}",
            _array("int", "PE_PART_SIZES[PE_PARTS]", map(str, check.parts)),
            _array("double", "PE_MEAN[PE_COMPONENTS]", map(repr, check.mean)),
            _array("double", "PE_SCALE[PE_COMPONENTS]", map(repr, check.scale)),
        ]
    return "\n".join([*lines, "", "#endif", ""])


def vectors_header(vectors: KitVectors) -> str:
    """``vectors.h``: the test vectors by their files, and the decision cases."""
    files = [
        f"{{{_text(each.file)}, {_text(each.decoded.file)}}}" for each in vectors.vectors if each.decoded is not None
    ]
    cases, arrays = [], []
    for number, case in enumerate(vectors.decisions):
        arrays += [
            _array("float", f"PE_{name}_{number}[]", map(_float, case.outputs[key]))
            for name, key in (("SCORES", PROBABILITY), ("COMPONENTS", COMPONENTS))
            if key in case.outputs
        ]
        cases.append(_case(number, case))
    return "\n".join(
        [
            "/* The test vectors, written by `pneumo-edge kit`. */",
            "#ifndef PE_VECTORS_H\n#define PE_VECTORS_H\n\n#include <stddef.h>\n",
            "typedef struct {\n  const char *file, *decoded;\n} pe_vector;\n",
            "typedef struct {\n  const float *scores, *components;\n} pe_case;\n",
            f"static const pe_vector PE_VECTORS[] = {{\n  {_COMMA.join(files)},\n}};\n",
            *arrays,
            f"static const pe_case PE_CASES[] = {{\n  {_COMMA.join(cases)},\n}};",
            "\n#endif",
            "",
        ]
    )


def array(content: bytes, name: str) -> tuple[str, str]:
    """A model file as C.

    Args:
        content: The file.
        name: Its name, for the comment.

    Returns:
        ``model_data.h`` and ``model_data.c``; engines want the array aligned to 16 bytes.
    """
    comment = f"/* The bytes of {_comment(name)}, written by `pneumo-edge kit --c-array`. */"
    header = (
        f"{comment}\n#ifndef PE_MODEL_DATA_H\n#define PE_MODEL_DATA_H\n\n#include <stddef.h>\n\n"
        f"extern const unsigned char pe_model_data[{len(content)}];\n"
        f"extern const size_t pe_model_size;\n\n#endif\n"
    )
    rows = _COMMA.join(", ".join(map(str, content[at : at + 24])) for at in range(0, len(content), 24))
    source = (
        f'{comment}\n#include "model_data.h"\n\n#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n'
        "#include <stdalign.h>\nalignas(16)\n#elif defined(__GNUC__)\n__attribute__((aligned(16)))\n#endif\n"
        f"const unsigned char pe_model_data[{len(content)}] = {{\n  {rows},\n}};\n\n"
        f"const size_t pe_model_size = {len(content)};\n"
    )
    return header, source


def _case(number: int, case: DecisionCase) -> str:
    components = f"PE_COMPONENTS_{number}" if COMPONENTS in case.outputs else "NULL"
    return f"{{PE_SCORES_{number}, {components}}} /* {_comment(case.about)} */"


def _set_bounds(spec: ModelSpec) -> Sequence[float]:
    bounds, positive = spec.conformal, spec.decision.positive_class
    if bounds is None:
        return [0.0] * len(spec.class_names)
    if bounds.least is not None:
        return [bounds.least[name] for name in spec.class_names]
    of_class = (bounds.least_positive if name == positive else bounds.most_negative for name in spec.class_names)
    return [0.0 if bound is None else bound for bound in of_class]


def _values(vectors: KitVectors) -> Iterable[str]:
    write = _float if vectors.tensor.dtype == "float32" else lambda value: str(int(value))
    for channel in vectors.tensor.values:
        yield "{" + _lines(map(write, channel)) + "}"


def _array(kind: str, name: str, values: Iterable[str]) -> str:
    return f"static const {kind} {name} = {{{_lines(values)}}};"


def _lines(values: Iterable[str]) -> str:
    texts = list(values)
    return _COMMA.join(", ".join(texts[at : at + _BY_LINE]) for at in range(0, len(texts), _BY_LINE))


def _float(value: float) -> str:
    text = f"{value:.9g}"
    return f"{text if any(mark in text for mark in '.e') else text + '.0'}f"


def _text(text: str) -> str:
    """A C string: JSON's escapes of ASCII characters are C's, and others are escaped twice."""
    return json.dumps(text, ensure_ascii=False).replace("??", "?\\?")


def _comment(text: str) -> str:
    return text.replace("*/", "* /").replace("\n", " ").replace("\\", "/")
