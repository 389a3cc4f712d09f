# The front door. `make help` lists what there is.
#
# Variables: DATA=folder or .npz of X-rays, WEIGHTS=folder of ImageNet weights, PYTHON=interpreter.

# Python 3.11 has every engine; tflite-runtime has no wheel for later ones.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
OPTIONS = $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)")
# The page that report-picture takes, to where, and with which browser.
REPORT ?= reports/report.html
PICTURE ?= docs/images/report.png
CHROMIUM ?= $(shell command -v chromium || command -v google-chrome)
# How much of each run of the student report is trained; empty for all of it.
EXTENT ?= --epochs 3 --images 1024
# The evaluation of the bundled models on the test split.
METRICS ?= results/evaluation/metrics.json
# Options of sustained-trial: the number and length of its runs.
TRIAL ?=
# How long each attack of serve-load lasts.
LOAD_SECONDS ?= 30
# A test process for each core; the tests of a file run in one of them, and files in their order (tests/conftest.py).
# What fixtures make for all of them lies in MADE.
MADE := $(CURDIR)/.pytest_cache/made
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
TEST := PNEUMO_EDGE_TESTS_MADE=$(MADE) $(BIN)/pytest $(PARALLEL)
# What is fuzzed, and for how long: until either is reached.
TARGET ?= image
RUNS ?= 1000000
SECONDS ?= 3600
# How often training is killed in each recipe, and how often each JSON document is changed.
KILLS ?= 10
MUTATIONS ?= 2000
# What train-seeds trains.
BACKBONES ?= mobilenetv2 efficientnetlite0 efficientnetb0
SEEDS ?= 0-4
RECIPE ?= robust
RUNS_IN ?= runs
# How many phantom images large-data draws and trains on.
IMAGES ?= 120000
# What is compared in the browser.
BROWSER_MODELS ?= mobilenetv2 efficientnetb0
# Model files whose verdicts are compared between machines, beside the bundled ones.
MODELS ?= models

.PHONY: help demo test lint docs release bench bench-training large-data models cards sample-pack bundled-references planted-shortcuts score-faults drift-trials scale-benchmark network-simulation recipe-selection counterfactual-files train-seeds several-devices watch-trial sustained-trial training-table formats-table matrix browser own-networks mixed-precision sensitivity report-reproduction \
	device-speed serve-load report-picture repeat training-latency benchmark-pages uncertain uncertain-rule kill-training kill-study mutate-documents fuzz processors arm64 clean
.DEFAULT_GOAL := help

help: ## List these targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

demo: $(READY) ## Classify an X-ray, then train, export, verify and benchmark two backbones; needs no network after installation (DATA=, WEIGHTS=)
	$(BIN)/pneumo-edge demo $(OPTIONS)

test: $(READY) ## Run all tests, on all cores: those that take moments first, then the slow ones
	rm -rf $(MADE)
	$(TEST) -m "not slow"; fast=$$?; test $$fast -lt 2 || exit $$fast; $(TEST) -m slow && exit $$fast

lint: $(READY) ## Check style, types and the dependencies between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) ## Build the documentation site into site/, without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Open site/index.html"

release: $(READY) ## Build wheel and sdist into dist/, check both, and try them in bare environments
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tools.try_release dist $(PARALLEL)

models: $(READY) ## Train both backbones with the recipe best and export every format (DATA=, WEIGHTS=)
	$(BIN)/pneumo-edge train $(OPTIONS) --backbone mobilenetv2
	$(BIN)/pneumo-edge train $(OPTIONS) --backbone efficientnetb0
	$(BIN)/pneumo-edge export runs/mobilenetv2-best runs/efficientnetb0-best --format all

bench: $(READY) ## Benchmark the files in models/ (DATA=)
	$(BIN)/pneumo-edge benchmark models $(if $(DATA),--data "$(DATA)")

serve-load: $(READY) ## Attack a service of its own on loopback, and see what an honest client notices (LOAD_SECONDS= each)
	$(BIN)/python -m tools.service_load --seconds $(LOAD_SECONDS)

watch-trial: $(READY) ## Drop 10,000 files into a folder that is watched, kill the watch ten times, and count the verdicts (OPTIONS=latency, OPTIONS="memory --files 100000")
	$(BIN)/python -m tools.watch_trial $(OPTIONS)

sustained-trial: $(READY) ## Take processor time from a sustained benchmark in steps, or leave it alone; keep results/sustained and the table in docs/benchmark-method.md (TRIAL=options)
	$(BIN)/python -m tools.sustained_trial $(TRIAL)

report-picture: ## Take docs/images/report.png of the top of the benchmark's page (REPORT=, CHROMIUM=)
	$(CHROMIUM) --headless --no-sandbox --hide-scrollbars --window-size=1280,800 --screenshot="$(abspath $(PICTURE))" \
		"file://$(abspath $(REPORT))"

device-speed: $(READY) ## Compare file to verdict with what else there is (DATA=, MEDIAPIPE=its python, KERAS=model.keras)
	$(BIN)/python -m tools.device_speed --images "$(DATA)" $(if $(MEDIAPIPE),--mediapipe "$(MEDIAPIPE)") \
		$(if $(KERAS),--keras "$(KERAS)")

repeat: $(READY) ## Make one short benchmark eleven times, and keep its raw results in results/benchmark/repeated (DATA=)
	rm -rf results/benchmark/repeated && mkdir -p results/benchmark/repeated
	for run in 00 01 02 03 04 05 06 07 08 09 10; do \
		$(BIN)/pneumo-edge benchmark mobilenetv2 efficientnetb0 --engine litert --preset rapid $(if $(DATA),--data "$(DATA)") \
			--out out/repeat/$$run && \
		gzip -9nc out/repeat/$$run/results.json > results/benchmark/repeated/$$run.json.gz || exit; \
	done

training-latency: $(READY) ## Time two trainings of a network side by side; keep results/benchmark/trainings.json.gz and the table in docs/benchmark-method.md (MODELS_IN="DIR DIR")
	$(BIN)/python -m tools.training_latency $(MODELS_IN)

benchmark-pages: $(READY) ## Write docs/benchmark-report.md and docs/backbones.md, the README's answer and a table in docs/benchmark-method.md from results/benchmark
	$(BIN)/python -m tools.benchmark_pages

uncertain: $(READY) ## Measure prediction sets and input check of the bundled models, or of UNCERTAIN_MODELS=, for docs/uncertain-answers.md (DATA=, ORIGINALS=)
	$(BIN)/python -m tools.abstention $(UNCERTAIN_MODELS) $(if $(DATA),--data "$(DATA)") $(if $(ORIGINALS),--originals "$(ORIGINALS)")

uncertain-rule: $(READY) ## Put the cross-validation of the rule for uncertain answers into docs/uncertain-answers.md
	$(BIN)/python -m tools.abstention.rule

bench-training: $(READY) ## Compare the speed of training with data in memory and with the report's pipeline (DATA=, WEIGHTS=)
	$(BIN)/python -m tools.training_speed $(OPTIONS)

large-data: $(READY) ## Measure the memory that training takes on 120,000 phantom images; takes 10 GB in out/large (IMAGES=)
	$(BIN)/python -m tools.large_data out/large --images $(IMAGES)

bundled-references: $(READY) ## Put what verify holds the bundled models to beside them, from results and sample pack (DATA= as above)
	$(BIN)/python -m tools.bundled_references "$(DATA)"

planted-shortcuts: $(READY) ## Plant shortcuts in phantom images, and count how often data audit finds them; keep results/audit
	$(BIN)/python -m tools.planted_shortcuts

recipe-selection: $(READY) ## Train shortened candidates for a recipe, compare them by counterfactual validation, and redraw docs/shortcuts.md (DATA=, WEIGHTS=)
	$(BIN)/python -m tools.recipe_selection $(OPTIONS)

counterfactual-files: $(READY) ## Measure counterfactual validation of model files for docs/shortcuts.md (DATA=, FILES=, by default the bundled ones)
	$(BIN)/python -m tools.counterfactual_files $(FILES) $(if $(DATA),--data "$(DATA)")

train-seeds: $(READY) ## Train SEEDS of BACKBONES by RECIPE into RUNS_IN/BACKBONE-RECIPE-SEED; resumes, and skips finished runs (DATA=, WEIGHTS=)
	for backbone in $(BACKBONES); do \
		$(BIN)/pneumo-edge train $(OPTIONS) --backbone $$backbone --recipe $(RECIPE) --seeds $(SEEDS) \
			--out $(RUNS_IN)/$$backbone-$(RECIPE) || exit; \
	done

robust-scores: $(READY) ## Draw the preregistered scores of results/robust in docs/shortcuts.md; with DATA=, first export the runs of RUNS_IN that have none, and score them on test
	$(if $(DATA),mkdir -p results/robust && for run in $(RUNS_IN)/*-robust-*/run.json; do \
		name=$$(basename $$(dirname $$run)); test -f results/robust/$$name.json && continue; \
		$(BIN)/pneumo-edge export $(RUNS_IN)/$$name --format tflite-fp32 --format tflite-int8 --data "$(DATA)" --out models/robust/$$name && \
		$(BIN)/pneumo-edge evaluate models/robust/$$name --split test --data "$(DATA)" --out out/robust/$$name && \
		cp out/robust/$$name/scores.json results/robust/$$name.json || exit; \
	done)
	$(BIN)/python -m tools.robust_scores

score-faults: $(READY) ## Kill runs and workers of score, lose a node, fail a store; compare the rows, keep results/scale/faults.json (OPTIONS=)
	CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m tools.score_faults $(OPTIONS)

scale-benchmark: $(READY) ## Measure what scoring an archive costs, as ratios; keep results/scale and the tables in docs/archive-cost.md
	$(BIN)/python -m tools.scale_benchmark

drift-trials: $(READY) ## Compare phantom images, as they are and changed, with a file's validation images; keep results/drift and the table in docs/drift.md
	CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m tools.drift_trials out/drift --per-class 60

network-simulation: $(READY) ## Count how often intervals and claims about networks hold the truth; keep results/networks, and the table in docs/evaluation.md
	$(BIN)/python -m tools.network_simulation $(OPTIONS)

several-devices: $(READY) ## Train a small network with ten seeds on one device and on two; keep results/devices and the table in docs/training.md
	$(BIN)/python -m tools.several_devices

training-table: $(READY) ## Put the runs in results/training into docs/training-results.md
	$(BIN)/python -m tools.training_table

browser: $(READY) ## Compare the site in headless Chromium with Python; keep results/web and the tables in docs/how-to/web.md (DATA=, BROWSER_MODELS=)
	$(BIN)/python -m tools.browser $(if $(DATA),$(BROWSER_MODELS) --data "$(DATA)")

own-networks: $(READY) ## Train and export networks of keras.applications as users do; keep results/own-networks and the table in docs/how-to/own-keras-model.md (DATA=, WEIGHTS=)
	CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m tools.own_networks $(OPTIONS)

matrix: $(READY) ## Export every network to every format, check and time each file; keep results/matrix, write docs/matrix.md (WEIGHTS=)
	CUDA_VISIBLE_DEVICES=-1 $(BIN)/python -m tools.matrix $(if $(WEIGHTS),--weights "$(WEIGHTS)")

formats-table: $(READY) ## Put the proofs in results/formats into docs/quantization.md
	$(BIN)/python -m tools.formats_page

mixed-precision: $(READY) ## Export runs in mixed precision and time them; put the records into docs/quantization.md (RUNS_OF="runs/A runs/B", DATA=)
	$(BIN)/python -m tools.mixed_precision $(RUNS_OF) $(if $(DATA),--data "$(DATA)")

sensitivity: $(READY) ## Scan the float files in models/ for what quantization harms, and redraw the figure (DATA=)
	$(BIN)/python -m tools.sensitivity $(if $(DATA),models/*-fp32.tflite --data "$(DATA)")

cards: $(READY) ## Write the model cards of the bundled models, and docs/models.md (METRICS=)
	$(BIN)/pneumo-edge card --metrics $(METRICS) --index docs/models.md

sample-pack: $(READY) ## Draw chest_xray_sample again out of the Kermany data set at 224 pixels (DATA=)
	$(BIN)/python -m pneumo_edge.data.sample "$(DATA)"

report-reproduction: $(READY) ## Train what is missing of docs/report-reproduction.md, and redraw it (DATA=, WEIGHTS=, EXTENT=)
	missing=$$($(BIN)/python -m tools.reproduction_page --missing) && for recipe in $$missing; do \
		$(BIN)/pneumo-edge train $(OPTIONS) --recipe $$recipe $(EXTENT) --out results/report-reproduction/$$recipe || exit; \
	done
	$(BIN)/python -m tools.reproduction_page

kill-training: $(READY) ## Kill training ten times in each recipe, and hold what it leaves against a run that was not killed (KILLS=)
	PNEUMO_EDGE_KILLS=$(KILLS) $(BIN)/pytest tests/training/test_interruption.py -q -s

kill-study: $(READY) ## Kill a study of three networks and three seeds twice, and compare its runs with undisturbed ones
	PNEUMO_EDGE_STUDY_SIZE=3 $(BIN)/pytest tests/training/test_study.py -q -s

mutate-documents: $(READY) ## Change each JSON document that is read in 2,000 ways, and look for tracebacks (MUTATIONS=)
	PNEUMO_EDGE_MUTATIONS=$(MUTATIONS) $(BIN)/pytest tests/benchmarks/test_documents.py -q --timeout=0

fuzz: $(READY) ## Fuzz what reads image and model files (TARGET=image, dicom, spec, tflite or onnx; RUNS=, SECONDS=)
	mkdir -p out/fuzz/$(TARGET)
	$(BIN)/python -m tests.fuzz.fuzz $(TARGET) -runs=$(RUNS) -max_total_time=$(SECONDS) -max_len=16384 -timeout=60 \
		-rss_limit_mb=2048 -artifact_prefix=out/fuzz/$(TARGET)- out/fuzz/$(TARGET) tests/fuzz/corpus/$(TARGET)

processors: $(READY) ## Ask integer files on emulated processors, and put what they answer into docs/quantization.md (MODELS=)
	$(BIN)/python -m tools.processors $(wildcard $(MODELS)/*.tflite $(MODELS)/*.onnx)

arm64: $(READY) ## Run the runtime's tests on an emulated 64-bit Arm, and compare its verdicts with this machine's (MODELS=)
	tests/arm64/run.sh out/arm64 $(BIN)/python "$(MODELS)"

clean: ## Remove the environment and everything that was made
	rm -rf .venv out runs models reports site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13. Run: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv (about 2 GB, some minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all,dev]"
	@touch $@
