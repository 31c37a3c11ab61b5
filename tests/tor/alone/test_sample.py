from __future__ import annotations

import subprocess
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[3] / "torrc.sample"


def test_tor_takes_the_sample(tmp_path: Path) -> None:
    """Its own check of a torrc, with the places moved to where this user may write."""
    text = SAMPLE.read_text().replace("/run/tor-instances/aegis-edge", str(tmp_path))
    (tmp_path / "torrc").write_text(f"{text}DataDirectory {tmp_path}/data\n")
    tmp_path.chmod(0o700)
    empty = tmp_path / "defaults"
    empty.touch()
    command = ["/usr/sbin/tor", "--verify-config", "-f", str(tmp_path / "torrc")]
    done = subprocess.run(
        [*command, "--defaults-torrc", str(empty)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    warnings = [line for line in done.stdout.splitlines() if "[warn]" in line]
    assert [line for line in warnings if "running Tor as root" not in line] == []
