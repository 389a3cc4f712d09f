"""The page speaks of X-rays where the model's classes are those of the chest X-rays, and else of images."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pneumo_edge.service import page
from pneumo_edge.service.limits import Limits
from pneumo_edge.spec import DataSpec
from tests.specs import make_spec


@pytest.mark.parametrize(("names", "word"), [(("NORMAL", "PNEUMONIA"), "X-ray"), (("nevus", "melanoma"), "image")])
def test_words_follow_from_the_model(names: tuple[str, str], word: str) -> None:
    spec = make_spec("tiny", "fp32")
    spec = replace(
        spec,
        class_names=names,
        decision=replace(spec.decision, positive_class=names[1]),
        data=DataSpec("folder", True, "none", {}, "none"),
    )
    classifier: Any = SimpleNamespace(spec=spec, engine=SimpleNamespace(name="litert", version="2"))
    text = page.render(classifier, Limits())["/"].content.decode()
    assert f"Choose an {word}</strong>" in text
    assert f"on {word}s." in text
    assert f'data-image="{word}"' in text
    assert bool(re.search("x-ray", text, re.IGNORECASE)) == (word == "X-ray")
