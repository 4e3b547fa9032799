# kho: a small face for meson. `make help` lists what there is to type.
PYTHON := /usr/bin/python3
SOURCES = $(shell tools/sources core; tools/sources cli; tools/sources supervisor; tools/sources test; tools/sources fuzz)

.PHONY: all packages
all: packages
	@tools/build build --buildtype=debugoptimized

packages:
	@tools/install-packages
