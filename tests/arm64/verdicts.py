"""What each engine here says: ``python verdicts.py FOLDER_OF_IMAGES MODEL ...``, as JSON.

``{"machine": ..., "probabilities": {model: {engine: [probability of the positive class, ...]}}}``
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

from pneumo_edge import Classifier
from pneumo_edge.runtime import engines


def _ask(model: Path, engine: str, images: list[Path]) -> list[float]:
    classifier = Classifier(model, engine=engine)
    positive = str(classifier.spec.decision.positive_class)
    return [classifier.predict(image).probabilities[positive] for image in images]


if __name__ == "__main__":
    folder, *models = map(Path, sys.argv[1:])
    images = sorted(folder.iterdir())
    said = {
        str(model): {row.name: _ask(model, row.name, images) for row in engines.installed_engines_for(model)}
        for model in models
    }
    print(json.dumps({"machine": platform.machine(), "probabilities": said}))
