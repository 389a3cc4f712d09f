"""A ModelSpec for files that only tests make."""

from __future__ import annotations

from pneumo_edge.spec import DataSpec, DecisionSpec, InputSpec, ModelSpec, TrainingSpec

SIDE = 224


def make_spec(backbone: str, file_format: str) -> ModelSpec:
    return ModelSpec(
        name=f"{backbone}-{file_format}",
        backbone=backbone,
        format=file_format,
        class_names=("NORMAL", "PNEUMONIA"),
        input=InputSpec(SIDE, SIDE, 3, "float32", "bilinear"),
        decision=DecisionSpec("PNEUMONIA", 0.5, "fixed", "nothing"),
        temperature=1.0,
        data=DataSpec("phantom images", False, "none", {}, "none"),
        training=TrainingSpec("none", 0, "random", 0, {}),
        versions={},
        notice="for tests only",
    )
