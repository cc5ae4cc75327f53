# Sluice: everything that a person or CI does, by name.
#   make run     build, start an engine with a demo instance, show mail delivered
#   make test    build with sanitizers and run every test
#   make bench   relay rates and CPU against Haraka and Postfix in the same run
#   make deb     a package for Debian 12
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BUILD := build
JOBS ?= 2

.PHONY: help deps node build run test unit e2e faults tsan fuzz bench deb format tidy clean

help:
	@sed -n 's/^#   //p' Makefile

# Installs the Debian packages that are missing; asks for root only when there are any.
deps:
	@tools/install-packages packages.txt

# Node and npm from Debian where there is no npm; who has another one keeps it.
node: deps
	@command -v npm >/dev/null || tools/install-packages packages.txt node

build: deps
	@cmake --preset release >$(BUILD)-release.log 2>&1 || { cat $(BUILD)-release.log; exit 1; }
	@rm -f $(BUILD)-release.log
	@cmake --build --preset release --target sluice -- -j$(JOBS)

run: build
	@tools/demo $(BUILD)/release/sluice

test: node
	@tools/run-tests

unit: deps
	@tools/run-tests unit

e2e: build node
	@tools/run-tests e2e

faults: deps
	@tools/run-tests faults

tsan: deps
	@tools/run-tests tsan

fuzz: deps
	@tools/run-fuzz

bench: build node
	@bench/run

deb: deps
	@tools/install-packages packages.txt deb
	@tools/deb
	@lintian --allow-root --fail-on error build/deb/sluice_*.deb

format:
	@git ls-files 'src/*.h' 'src/*.cc' 'fuzz/*.cc' 'bench/*.cc' 'include/*.h' | xargs -r clang-format-19 -i

tidy: deps
	@tools/tidy.py
	@JOBS=$(JOBS) tools/clang-tidy

clean:
	@rm -rf $(BUILD)
