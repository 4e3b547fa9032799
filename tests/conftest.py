"""Fixtures of all end-to-end tests. What they hand out is in harness.py and guest/."""

import os
import pathlib
import random
import shutil
import signal
import tempfile
import zlib

import pytest

import harness

SEED = int(os.environ.get("KHO_SEED") or random.SystemRandom().randrange(1 << 31))
TEST_GUARD_S = 3600 if harness.SOAK else 280

# Whoever starts the tests in the background may have them ignore SIGINT; kho, which respects that, would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header(config):
    return f"build: {harness.build_dir()}   KHO_SEED={SEED}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)
    if report.when == "call" and report.failed:
        if "rng" in item.fixturenames:
            report.sections.append(("replay", f"KHO_SEED={SEED} pytest '{item.nodeid}'"))
        for kho in getattr(item, "khos", []):
            report.sections.append(("machine logs", kho.logs()))
            report.sections.append(("what QEMU says", kho.qemu_says()))
            report.sections.append(("left at the failure", "\n".join(kho.leftovers())))


@pytest.fixture(autouse=True)
def hang_guard():
    """Ends a test that waits for ever, so that its output is seen."""
    def ring(number, frame):
        raise AssertionError(f"the test ran for {TEST_GUARD_S} s")
    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(TEST_GUARD_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="session")
def build():
    """The build directory that holds kho and kho-vm."""
    folder = harness.build_dir()
    assert (folder / "kho").exists(), f"{folder}/kho is not built: run `make check`, or set KHO_BUILD"
    return folder


@pytest.fixture
def kho_factory(request, build):
    """Makes further trees: kho_factory() is a Kho of its own."""
    request.node.khos = []

    def make():
        request.node.khos.append(harness.Kho(build))
        return request.node.khos[-1]
    yield make
    report = getattr(request.node, "report_call", None)
    errors = []
    for kho in request.node.khos:
        try:
            kho.end(passed=report is not None and report.passed)
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def kho(kho_factory):
    """kho in a fresh tree: kho("list", "--all").out. A test must leave no machine, socket, lock behind."""
    return kho_factory()


@pytest.fixture
def tmp():
    """A folder below /tmp, removed afterwards."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kho-tmp-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rng(request):
    """A random source for this test alone; a failure prints the KHO_SEED that replays it."""
    return random.Random(SEED + zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def soak():
    """Whether the long counts were asked for (KHO_SOAK=1)."""
    return harness.SOAK


@pytest.fixture
def small_fs():
    """small_fs("ext4", 32) or small_fs("xfs", 300): a mounted file system of that many MiB, to be filled."""
    made = []

    def make(kind="ext4", size_mib=32):
        made.append(harness.SmallFileSystem(kind, size_mib))
        return made[-1]
    yield make
    for file_system in made:
        file_system.end()
