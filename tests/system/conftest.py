"""Machines that boot systemd for everything in this folder, which is left out without --system."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine, booted

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--system"):
        return
    here = Path(__file__).parent
    config.hook.pytest_deselected(items=[item for item in items if here in item.path.parents])
    items[:] = [item for item in items if here not in item.path.parents]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package of this tree; before it the same one as if it had come out earlier."""
    said = subprocess.run([ROOT / "scripts" / "deb"], check=True, capture_output=True, text=True)
    new = ROOT / said.stdout.strip()
    folder = tmp_path_factory.mktemp("earlier")
    subprocess.run(["dpkg-deb", "-R", new, folder / "tree"], check=True)
    control = folder / "tree" / "DEBIAN" / "control"
    version = "Version: "
    text = control.read_text().replace(version, f"{version}0~earlier.")
    control.write_text(text)
    with (folder / "tree" / "etc" / "aegis-edge" / "torrc").open("a") as torrc:
        torrc.write("# earlier\n")
    old = folder / "earlier.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", folder / "tree", old]
    subprocess.run(command, check=True, capture_output=True)
    return [old, new]


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def bare(
    request: pytest.FixtureRequest, packages: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine on which all that the package needs is installed, and it is not."""
    with booted(request.param, tmp_path_factory.mktemp("machine"), packages) as found:
        yield found


@pytest.fixture
def machine(bare: Machine) -> Iterator[Machine]:
    """One with the package, which is purged at the end with all that came of it."""
    bare.install(bare.new)
    yield bare
    bare.purge()


@pytest.fixture
def board(machine: Machine) -> Machine:
    """One whose node is a cluster of its own, and runs."""
    machine.type("aegis-edge init --single")
    machine.type("systemctl enable --now aegis-edge")
    return machine
