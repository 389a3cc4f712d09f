"""Train a network on chest X-rays, export it as an int8 TFLite file, evaluate that file, and measure it.

Usage: python train_export_benchmark.py DATA OUT
"""

import sys
from pathlib import Path

import pneumo_edge

data, out = Path(sys.argv[1]), Path(sys.argv[2])
run = pneumo_edge.train(data, backbone="mobilenetv2", recipe="quick", out=out / "run")
files = pneumo_edge.export(run, formats=["tflite-int8"], out=out / "models")
evaluation = pneumo_edge.evaluate(files, data=data, split="test", out=out / "evaluation")
measured = pneumo_edge.benchmark(files, data=data, preset="rapid", out=out / "benchmark")

for scored in evaluation.metrics.models:
    print(f"{scored.model.file}: AUC {scored.metrics['auc']} on the test images")
for row in measured.summary.rows:
    print(f"{row.result.unit.name}: {row.inference.median_ms:.2f} ms, peak memory {row.peak_bytes / 2**20:.0f} MiB")
