# Everything runs in .venv, which is made from nothing: `make demo`, `make test`, `make check`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Several threads that wait for each other lose tenfold as soon as another process wants a core.
export OMP_NUM_THREADS ?= 1

.PHONY: demo docs evidence test check clean

demo: run := runs/demo-$(shell date +%Y%m%d-%H%M%S)
demo: $(INSTALLED)
	$(BIN)/recbole-margo audit --dataset=ml-100k --output_dir=$(run)-audit
	$(BIN)/python run_recbole_margo.py --model=MARGO,DRAGON,LightGCN,BPR --dataset=ml-100k \
	  --output_dir=$(run)
	@echo "The same MARGO, its weights taught by evidence that does not know the item:"
	$(BIN)/recbole-margo train --model=MARGO --dataset=ml-100k --evidence=held_out \
	  --output_dir=$(run)-held-out
	$(BIN)/recbole-margo bundle --run $(run)/MARGO --output_dir $(run)/bundle
	$(BIN)/recbole-margo recommend --bundle $(run)/bundle --users 196 --top 5
	$(BIN)/recbole-margo explain --bundle $(run)/bundle --user 196 --item 50
	@echo
	@sed -n '/^## Test metrics/,/^## Stages/{/^## /d;p;}' $(run)/comparison.md
	@echo "What to open:"
	@echo "  $(run)-audit/audit.html    which contents do not fit their items"
	@echo "  $(run)/comparison.md       the models, their stages and conditions"
	@echo "  $(run)/MARGO/weights.png   what MARGO learned to trust"
	@echo "The recommendations as a page, http://127.0.0.1:8000/?user=196 after:"
	@echo "  $(BIN)/pip install fastapi uvicorn prometheus-client && $(BIN)/recbole-margo serve --bundle $(run)/bundle"

evidence: $(INSTALLED)
	$(BIN)/python -m benchmarks.evidence_detection
	$(BIN)/python -m benchmarks.evidence_cost baby
	$(BIN)/python benchmarks/evidence.py --epochs=25
	$(BIN)/python -m benchmarks.score_scale --scales='[0.25]' --variants='w/o weight,MARGO' \
	  --epochs=25 --seeds=2 --workers=2 --output_dir=runs/evidence/score-scale

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt -r docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# RecBole is installed without its dependencies: constraints.txt names those that it needs, and the
# two others, ray and thop, have no release for Python >= 3.12 and are used by none of ours.
$(INSTALLED): constraints.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo \
	  "recbole-margo needs Python 3.10 or newer; name one with make PYTHON=python3.11"; exit 1; }
	@echo "Installing torch, RecBole and the rest into .venv: some 1.7 GB, a few minutes ..."
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps recbole==1.2.1 --editable .
	touch $@
