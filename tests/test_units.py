"""The units say what the program does, and systemd finds nothing to say against them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aegis_edge import config
from aegis_edge.cli import owner, screen
from aegis_edge.config import ConfigError
from aegis_edge.disk import keyfile
from aegis_edge.net import lan

UNITS = Path(__file__).resolve().parent.parent / "systemd"
DIRECT, TOR = UNITS / f"{owner.DIRECT}.service", UNITS / f"{owner.TOR}.service"
BOOKWORMS = 252
TOR_FOR_US = UNITS / "tor-for-aegis-edge.service"


def lines(unit: Path, key: str) -> list[str]:
    """The values of a setting, in order."""
    found = (line.partition("=") for line in unit.read_text().splitlines())
    return [value for name, _, value in found if name == key]


def words(unit: Path, key: str) -> list[str]:
    return [word for value in lines(unit, key) for word in value.split()]


def environment(unit: Path) -> dict[str, str]:
    home = f"/var/lib/{lines(unit, 'StateDirectory')[0]}"
    given = dict(value.split("=", 1) for value in lines(unit, "Environment"))
    return {"STATE_DIRECTORY": home, **given}


@pytest.mark.parametrize("unit", [DIRECT, TOR])
def test_it_begins_again_but_not_where_a_person_must_act(unit: Path) -> None:
    assert words(unit, "RestartPreventExitStatus") == [str(screen.USAGE), str(os.EX_CONFIG)]
    assert words(unit, "RestartForceExitStatus") == [str(os.EX_IOERR), str(os.EX_TEMPFAIL)]
    assert lines(unit, "Restart") == ["on-failure"]
    assert lines(unit, "StartLimitIntervalSec") == ["0"]


@pytest.mark.parametrize("unit", [DIRECT, TOR])
def test_its_places_are_those_that_commands_look_in(unit: Path) -> None:
    found = config.load({}, {"STATE_DIRECTORY": environment(unit)["STATE_DIRECTORY"]})
    assert found.directory == config.SERVICE_HOME
    folder = Path("/run", lines(unit, "RuntimeDirectory")[0])
    assert found.api_socket == config.SERVICE_API_SOCKET == folder / "api.sock"
    assert lines(unit, "LoadCredential") == [keyfile.CREDENTIAL]


def test_the_two_differ_only_where_links_travel() -> None:
    more = set(TOR.read_text().splitlines()) - set(DIRECT.read_text().splitlines())
    keys = {line.partition("=")[0] for line in more if not line.startswith("#")}
    assert keys == {
        *("After", "Conflicts", "Description", "Wants"),
        *("Environment", "PrivateNetwork", "ReadWritePaths"),
        *("RestrictAddressFamilies", "SupplementaryGroups"),
    }
    assert (lines(TOR, "PrivateNetwork"), lines(TOR, "IPAddressAllow")) == (["yes"], [])
    assert lines(TOR, "RestrictAddressFamilies") == ["AF_UNIX"]


def test_the_direct_unit_hears_the_beacons_of_its_network() -> None:
    assert lan.GROUP in words(DIRECT, "IPAddressAllow")


@pytest.mark.parametrize(
    ("unit", "transport", "fits"),
    [(DIRECT, "direct", True), (DIRECT, "tor", False), (TOR, "tor", True), (TOR, "direct", False)],
)
def test_a_home_of_the_other_kind_is_refused(
    tmp_path: Path, unit: Path, transport: str, fits: bool
) -> None:
    (tmp_path / "config.toml").write_text(f"transport = '{transport}'\n")
    given = environment(unit) | {"STATE_DIRECTORY": str(tmp_path)}
    if fits:
        assert config.load({}, given)["transport"] == transport
        return
    with pytest.raises(ConfigError) as refused:
        config.load({}, given)
    assert refused.value.exit_code == os.EX_CONFIG


def test_the_tor_of_the_unit_is_where_the_node_looks_for_it() -> None:
    found = config.load({"transport": "tor"}, environment(TOR))
    torrc = (UNITS / "torrc").read_text().splitlines()
    for option, key in (("ControlSocket", "tor_control_port"), ("SocksPort", "tor_socks_port")):
        (place,) = [line.split()[1] for line in torrc if line.startswith(f"{option} ")]
        assert place.removeprefix("unix:") == found[key].removeprefix("unix:")
    assert [str(found.onion_socket.parent)] == lines(TOR, "ReadWritePaths")
    assert lines(TOR_FOR_US, "User") == lines(TOR, "SupplementaryGroups")


@pytest.fixture
def analyze() -> list[str]:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd here")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.split()[1]) < BOOKWORMS:
        pytest.skip(f"this systemd is older than the oldest that boards have: {said.split()[1]}")
    return [found]


@pytest.mark.parametrize(("unit", "tenths"), [(TOR, 3), (DIRECT, 10), (TOR_FOR_US, 15)])
def test_little_is_exposed(unit: Path, tenths: int, analyze: list[str]) -> None:
    command = [*analyze, "security", "--offline=true", f"--threshold={tenths}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", [TOR, DIRECT, TOR_FOR_US])
def test_systemd_knows_every_line(unit: Path, tmp_path: Path, analyze: list[str]) -> None:
    """Unknown keys are only warned of, and what is not installed is only found where it is."""
    text = unit.read_text()
    for program in ("/usr/bin/aegis-edge", "/usr/bin/tor"):
        text = text.replace(f"={program}", "=/bin/true")
    (tmp_path / unit.name).write_text(text)
    command = [*analyze, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
