# kho: a small face for meson. `make help` lists what there is to type.
PYTHON := /usr/bin/python3
PREFIX ?= /usr/local
SANITIZED := -Db_sanitize=address,undefined -Dtests=true
JOBS := $(shell nproc)

.PHONY: all packages check soak bench bench-image bench-guest lint demo guest fuzz install clean help

all: packages
	@tools/build build --buildtype=debugoptimized -Dwerror=false

packages:
	@tools/install-packages

check: packages
	@tools/build build-check $(SANITIZED)
	@$(PYTHON) tools/check

soak: all
	@tools/build build-check $(SANITIZED)
	@KHO_SOAK=1 $(PYTHON) tools/check
	@tests/fresh/run

bench: all guest
	@$(PYTHON) tools/bench

bench-image: all
	@$(PYTHON) tools/bench-image $(BENCH)

bench-guest: all guest
	@$(PYTHON) tools/bench-guest $(BENCH)

lint: packages
	@$(PYTHON) tools/lint

demo: all guest
	@$(PYTHON) tools/demo

guest: packages
	@tests/guest/build

fuzz: packages
	@CC=clang tools/build build-fuzz -Dlibfuzzer=true -Dtests=true -Db_sanitize=address,undefined
	@tools/fuzz build-fuzz

install: all
	@meson configure build --prefix="$(abspath $(PREFIX))"
	@tools/build build --buildtype=debugoptimized -Dwerror=false
	@meson install -C build --no-rebuild --quiet $(if $(DESTDIR),--destdir "$(abspath $(DESTDIR))")

clean:
	rm -rf build build-check build-fuzz

help:
	@echo 'make           build into build/: build/kho and build/kho-vm run from there'
	@echo 'make demo      a machine from nothing to a restored backup, step by step, with a real QEMU'
	@echo 'make check     lint, unit tests and end-to-end tests, under sanitizers (build-check/)'
	@echo 'make soak      the same with the long counts, then everything again in a clean Debian tree'
	@echo 'make bench     what kho costs, beside QEMU and qemu-img'
	@echo 'make bench-image  images beside qemu-img: BENCH="--runs 3 info convert" picks (root; 20 GB in /var/tmp)'
	@echo 'make bench-guest  what the format of its disk costs a guest'
	@echo 'make lint      formatting, who includes whom, what is linked, which calls are made'
	@echo 'make fuzz      run each decoder under libFuzzer for FUZZ_SECONDS (60) (needs clang)'
	@echo 'make install   DESTDIR and PREFIX (now $(PREFIX)) say where'
	@echo 'make clean     remove the builds; the guest kernel stays in .cache/'
