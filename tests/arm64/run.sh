#!/usr/bin/env bash
# The runtime's tests on an emulated 64-bit Arm, and its verdicts against this machine's: run.sh FOLDER PYTHON MODELS
set -euo pipefail
folder=$(realpath -m "$1")
python=$(realpath -s "$2")
models=$(realpath -m "$3")
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD
tests/arm64/prepare.sh "$folder" "$python"
# Made here, because there is no TensorFlow there.
[ -e "$folder/tiny" ] || "$python" tests/tiny_model.py "$folder/tiny"
export PNEUMO_EDGE_TINY_MODELS=$folder/tiny
PNEUMO_EDGE_ARM64_PYTHON=$folder/python PNEUMO_EDGE_MODELS=$models "$python" -m pytest tests/test_arm64.py -v
# tflite-runtime crashes there on the tiny int8 network, and QEMU limits no memory: docs/arm64.md.
"$folder/python" -m pytest -p no:cacheprovider -m "not slow" \
	-k "not (int8 and tflite-runtime) and not takes_too_much_memory" \
	tests/runtime/test_classifier.py tests/runtime/test_imports.py tests/imaging/test_images.py tests/test_spec.py \
	tests/test_bundled.py tests/util/test_subprocesses.py
