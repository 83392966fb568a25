# Everything is installed into .venv, nothing elsewhere; conf/setup.sh does it.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check lock package clean

# Settings of another Spark or Python on this machine would get in before those of .venv.
unexport SPARK_HOME SPARK_CONF_DIR PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON PYTHONPATH PYTHONHOME
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
LOCKS := requirements.txt requirements-dev.txt

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

setup: .venv/.ready  ## Make .venv: packages, Spark, Java (PYTHON=/path/to/python3.11 to choose one, after make clean)

.venv/.ready: $(LOCKS) pyproject.toml conf/setup.sh
	@sh conf/setup.sh $(LOCKS)
	@touch $@

demo: setup  ## Run the whole way into demo/, on a synthetic corpus or on your own (SOURCE=/some/folder)
	$(IN_VENV) spark-submit jobs/demo.py $${SOURCE:+--source "$$SOURCE"} --out demo

# Two files at a time: most of a test is waiting, for a JVM, a server, another process.
test: setup  ## Run all tests
	$(IN_VENV) python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: setup  ## Lint, format, types, import rules
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check
	$(IN_VENV) mypy
	$(IN_VENV) lint-imports

# Pins that are in the files stay; delete a file first to move them all.
COMPILE = uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-annotate -q
lock:  ## Write requirements*.txt anew from pyproject.toml (needs uv)
	$(COMPILE) pyproject.toml --extra java --extra imagenet --extra openvino --extra tensorboard -o requirements.txt
	sed -n '/^dev = \[/,/^\]/s/^ *"\(.*\)",.*/\1/p' pyproject.toml | \
	    $(COMPILE) - -c requirements.txt -o requirements-dev.txt

package: setup  ## What a cluster needs: dist/environment.tar (packed .venv) and dist/pneumospark-*.whl
	$(IN_VENV) sh conf/package.sh dist

clean:  ## Remove .venv, demo/ and the caches
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
