"""What the Debian package says of itself, held against the tree: no build, no root."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

import aegis_edge
import manpages
from aegis_edge.cli.root import COMMANDS, root
from aegis_edge.config import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
DEBIAN = ROOT / "debian"


def unit(name: str) -> dict[str, str]:
    lines = (ROOT / "systemd" / f"{name}.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


#: What Debian calls otherwise.
DEBIANS = {"pynacl": "nacl"}
UNITS = [path.stem for path in sorted((ROOT / "systemd").glob("*.service"))]


def test_every_dependency_is_debians() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].split()
    control = (DEBIAN / "control").read_text()
    for each in wanted:
        name = re.split("[<>=]", each)[0]
        assert f" python3-{DEBIANS.get(name, name)}" in control
    assert "X-Python3-Version: >= 3.11" in control


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_is_in_the_package_and_none_is_enabled(name: str) -> None:
    assert (DEBIAN / f"aegis-edge.{name}.service").resolve() == ROOT / "systemd" / f"{name}.service"
    rules = (DEBIAN / "rules").read_text()
    assert name in rules.partition("UNITS = ")[2].partition("\n")[0].split()
    assert "dh_installsystemd --no-enable" in rules


@pytest.mark.parametrize("name", UNITS)
def test_its_user_is_made_and_its_data_goes_with_a_purge(name: str) -> None:
    said = unit(name)
    assert f"u {said['User']} - " in (DEBIAN / "aegis-edge.sysusers").read_text()
    purge = (DEBIAN / "aegis-edge.postrm").read_text().partition("purge ]")[2].split()
    assert {f"/var/lib/{said['StateDirectory']}", f"/run/{said['RuntimeDirectory']}"} <= set(purge)


def test_there_is_a_page_for_each_command_and_every_option(tmp_path: Path) -> None:
    manpages.write(tmp_path)
    pages = {path.name for path in tmp_path.iterdir()}
    assert pages == {"aegis-edge.1", *(f"aegis-edge-{name}.1" for name in COMMANDS)}
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        text = (tmp_path / f"aegis-edge-{name}.1").read_text()
        own = [p for p in command.params if p.name not in ("as_json", "api_socket", "home")]
        for parameter in own:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0].replace("-", "\\-") in text
    main = (tmp_path / "aegis-edge.1").read_text()
    assert all(setting.variable in main for setting in SETTINGS)
    assert ".B 78\n" in main


@pytest.mark.parametrize(
    ("text", "roff"),
    [("a-b", "a\\-b"), (".x\n'y", "\\&.x\n\\&'y"), ("\\ ~ ^", "\\e \\(ti \\(ha")],
)
def test_roff_shows_text_as_it_is(text: str, roff: str) -> None:
    assert manpages.escaped(text) == roff


def test_a_page_is_as_old_as_its_release(tmp_path: Path) -> None:
    manpages.write(tmp_path)
    trailer = (DEBIAN / "changelog").read_text().splitlines()[-1]
    (year,) = re.findall(r" (\d{4}) ", trailer)
    assert f" 1 {year}\\-" in (tmp_path / "aegis-edge-kb.1").read_text().splitlines()[0]


def test_the_readme_installs_this_version() -> None:
    assert f"./aegis-edge_{aegis_edge.__version__}_all.deb" in (ROOT / "README.md").read_text()
