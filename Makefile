# Each target does all the set-up that it needs: a virtual environment in .venv with this package in it.
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Of `make gpu`: minutes that it may take, images, folder for rows, and whether it only walks on a CPU.
MINUTES ?= 8
DATA ?=
OUT ?= gpu-out
FROM ?= gpu-out
DRY ?=

.PHONY: demo test test-slow test-faults test-cuda lint docs benchmark detectron2 clean gpu gpu-rows gpu-tables gpu-models gpu-wheels

# What a user would type, on the embedded data set. SEED=1 is another run.
demo: $(STAMP)
	rm -rf demo-out
	$(BIN)/pretrain shapes_demo --out demo-out/run seed=$(SEED)
	$(BIN)/zoo export demo-out/run --out demo-out/model
	$(BIN)/evaluate --task knn --data shapes --model pixels --model random:resnet10t:$(SEED) --model demo-out/run --model demo-out/model \
	  --out demo-out/results --pictures demo-out/neighbours
	$(BIN)/zoo add-result demo-out/model demo-out/results/demo-out-model.json
	$(BIN)/python benchmarks/demo_picture.py demo-out
	@echo "see demo-out/demo.png, demo-out/neighbours/demo-out-model.png and demo-out/model/README.md"

# Two processes, each with one thread (tests/conftest.py), for two cores; a file's tests stay together, for what they share.
test: $(STAMP) detectron2
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP) detectron2
	$(BIN)/python -m pytest -m slow

# Kills, signals, full disks, damaged files: what tests/faults has beyond its share of `make test`. It prints its counts.
test-faults: $(STAMP) detectron2
	$(BIN)/python -m pytest -m faults -s tests/faults

test-cuda: $(STAMP) detectron2
	$(BIN)/python -m pytest -m cuda

# Optional: without it the tests of detection are skipped, and say how it is installed. A moment where it is there already.
detectron2: $(STAMP)
	@$(BIN)/python -m transfer.detection.install --quiet || echo "tests of detection will be skipped"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documents as a site, site/index.html; a link or a name that leads nowhere is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "see site/index.html"

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

benchmark: $(STAMP)
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/crops.py
	$(BIN)/python benchmarks/boxes.py
	$(BIN)/python benchmarks/knn.py
	$(BIN)/python benchmarks/linear.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/kmeans.py
	$(BIN)/python benchmarks/kmeans_seeds.py
	$(BIN)/python benchmarks/hcsc_step.py
	$(BIN)/python benchmarks/neighbours.py
	$(BIN)/python benchmarks/csml_step.py
	$(BIN)/python benchmarks/zoo_start.py
	$(BIN)/python benchmarks/import_memory.py
	$(BIN)/python benchmarks/pull.py
	$(BIN)/python benchmarks/conversion.py
	$(BIN)/python benchmarks/detection.py

# Measure on a GPU, with PYTHON as it is: docs/gpu.md.
gpu:
	$(PYTHON) benchmarks/gpu/run.py --minutes $(MINUTES) --out $(OUT) $(if $(DATA),--data $(DATA)) $(if $(DRY),--dry)

# What came back becomes part of the checkout: rows, tables, models; and what travels there.
gpu-rows:
	$(PYTHON) benchmarks/gpu/rows.py $(FROM)

gpu-tables: $(STAMP)
	$(BIN)/python benchmarks/gpu/tables.py

gpu-models: $(STAMP)
	$(BIN)/python benchmarks/gpu/models.py $(FROM) --out $(OUT)

gpu-wheels: $(STAMP)
	$(BIN)/python benchmarks/gpu/wheels.py --out wheels $(if $(DETECTION),--detection)

clean:
	rm -rf demo-out site

# The CUDA build of torch that PyPI has runs on the CPU too.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)
