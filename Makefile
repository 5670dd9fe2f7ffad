# make >= 3.81, /bin/sh and Python 3.11 to 3.14 are all that is needed.
.PHONY: run renew test lint bench soak litellm lock formula clean
SHELL := /bin/sh

# $(call starts,programs): the first that starts, is neither too old nor too new and can make environments.
starts = $(shell for p in $(1); do \
	if "$$p" -c 'import ensurepip, venv, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then echo "$$p"; break; fi; done)
# $(call python,3.12): a Python of that version, also one that pyenv keeps off the PATH.
python = $(call starts,python$(1) "$$HOME"/.pyenv/versions/$(1).*/bin/python$(1))

PYTHON ?= $(or $(call starts,python3 python3.13 python3.14 python3.12 python3.11),$(error Python 3.11 to 3.14 is needed \
	(for 3.15 neither LiteLLM nor pydantic-core has wheels yet); name one with: make PYTHON=/path/to/python3 ...))
CHOSEN := $(PYTHON)
CURRENT := $(shell "$(CHOSEN)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
OTHERS = $(foreach v,$(filter-out $(CURRENT),3.14 3.13 3.12 3.11),$(if $(call python,$(v)),$(v)))

DEV := .venv-$(CURRENT)/bin
SHIPPED := ccproxy_supervisor/data/litellm
LITELLM := $(shell cat $(SHIPPED)/pinned)
PLATFORMS := aarch64-apple-darwin x86_64-apple-darwin x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
COMPILE := $(DEV)/uv pip compile --quiet $(UPGRADE) --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

run: .venv/made
	@.venv/bin/ccproxy-supervisor init .home
	@exec .venv/bin/ccproxy-supervisor run --verbose --config .home/supervisor.yaml

test: litellm
	@$(MAKE) --no-print-directory $(patsubst %,.venv-%/made,$(OTHERS))
	@$(DEV)/python tests/everything.py $(CURRENT) $(OTHERS)

lint: .venv-$(CURRENT)/made
	@$(DEV)/python tests/everything.py --lint $(CURRENT)

bench: litellm
	@$(DEV)/python -m benchmarks

# 200 random faults in an hour: make soak SOAK="--faults 1000 --seconds 36000 --seed 7"
soak: .venv-$(CURRENT)/made
	@cd tests && ../$(DEV)/python soak.py $(SOAK)

# The real LiteLLM that tests and benchmarks share: .cache/home/venv/bin/python
litellm: .venv-$(CURRENT)/made
	@$(DEV)/ccproxy-supervisor init .cache/home

# Newer versions of everything: make lock UPGRADE=--upgrade
lock: .venv-$(CURRENT)/made
	$(COMPILE) --group build pyproject.toml -o requirements.lock
	$(COMPILE) --group build --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
	echo "litellm[proxy]==$(LITELLM)" | $(COMPILE) - --override $(SHIPPED)/overrides.txt -o $(SHIPPED)/$(LITELLM).lock
	@for lock in requirements.lock requirements-dev.lock $(SHIPPED)/$(LITELLM).lock; do \
	for platform in $(PLATFORMS); do for version in 3.11 3.12 3.13 3.14; do \
	$(DEV)/uv pip compile --quiet --offline --no-deps --only-binary :all: --python-platform $$platform --python-version $$version \
	$$lock -o /dev/null || { echo "no wheel: $$lock on $$platform, Python $$version" >&2; exit 1; }; done; done; done

# The Homebrew formula, whose resources are what is locked.
formula: .venv-$(CURRENT)/made
	@mkdir -p build && $(DEV)/uv pip compile --quiet --universal --format pylock.toml --python-version 3.11 --no-emit-index-url \
	-c requirements.lock pyproject.toml -o build/pylock.toml
	@$(DEV)/python tools/formula.py build/pylock.toml

clean:
	rm -rf .venv-* .cache build *.egg-info  # not .venv: a service may run from there

# $(call environment,python,folder,lock)
define environment
	@echo "making $(2) with $(1)"
	@"$(1)" -m venv --clear $(2)
	@$(2)/bin/python -m pip --disable-pip-version-check install -qq --require-hashes --only-binary :all: -r $(3)
	@$(2)/bin/python -m pip install -qq --no-deps --no-index --no-build-isolation $(4) .
endef

# What a service runs from is never changed under it. Each build has a folder of its own in .venvs, and .venv, the link to the
# one in use, moves in one rename when the new one works. Not --editable: a pull must not reach a daemon that runs, and macOS
# hides what is in a folder with a dot from Python, which then passes over the .pth of an editable install.
SOURCES := $(shell find ccproxy_supervisor config launchd -type f ! -name '*.pyc' 2>/dev/null)
BUILD = .venvs/$(STAMP)
.venv/made: STAMP := $(shell date -u +%Y%m%d-%H%M%S)
.venv/made: requirements.lock pyproject.toml Makefile $(SOURCES)
	@for old in .venvs/*; do test -e "$$old/made" || rm -rf "$$old"; done; rm -rf build
	$(call environment,$(CHOSEN),$(BUILD),requirements.lock)
	@rm -rf build; $(BUILD)/bin/ccproxy-supervisor version --config /dev/null >/dev/null
	@touch $(BUILD)/made; rm -f .venvs/link; ln -s $(BUILD) .venvs/link
	@test -h .venv || test ! -e .venv || mv .venv .venvs/before  # an environment from before there were links
	@$(BUILD)/bin/python -c 'import os; os.replace(".venvs/link", ".venv")'
	@ls -1dt .venvs/*/made | tail -n +4 | sed 's#/made$$##' | xargs rm -rf

# The supervisor's own update, under its workers: built beside, proven, renewed; the link goes back where that fails. For a home
# that is not ~/ccproxy: make renew CONFIG=/path/to/supervisor.yaml
renew:
	@before=$$(readlink .venv); $(MAKE) --no-print-directory .venv/made && \
	{ .venv/bin/ccproxy-supervisor renew $(if $(CONFIG),--config "$(CONFIG)") || { status=$$?; \
	if test $$status = 1 && test -n "$$before" && test -x "$$before/bin/python"; then rm -f .venvs/link; ln -s "$$before" .venvs/link; \
	"$$before/bin/python" -c 'import os; os.replace(".venvs/link", ".venv")'; echo "kept $$before"; fi; exit $$status; }; }
.venv-%/made: requirements-dev.lock pyproject.toml
	$(call environment,$(if $(filter $(CURRENT),$*),$(CHOSEN),$(call python,$*)),.venv-$*,requirements-dev.lock,--editable)
	@touch $@
