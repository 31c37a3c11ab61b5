"""The key file: secret, whole, and never made twice."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aegis_edge.crypto import sodium
from aegis_edge.disk import keyfile
from aegis_edge.disk.errors import DiskError
from aegis_edge.disk.keyfile import KeyFileError, NodeKeys, RotationGoesOn

ENTROPY = bytes(range(64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.key"


def test_an_identity_comes_back_as_it_was_made(path: Path) -> None:
    keys = keyfile.create(path, ENTROPY)
    assert keys == NodeKeys(ENTROPY[:32], ENTROPY[32:], 0)
    assert keyfile.read(path) == keys
    assert keys.public == sodium.ed25519_keypair(ENTROPY[:32])[0]
    assert keys.noise_public == sodium.x25519_public(ENTROPY[32:])
    assert {p.name for p in path.parent.iterdir()} == {"node.key", "never-ran"}


def test_two_identities_differ(tmp_path: Path) -> None:
    one, other = keyfile.create(tmp_path / "a"), keyfile.create(tmp_path / "b")
    assert len({one.seed, one.noise_private, other.seed, other.noise_private}) == 4


def test_it_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    for mask in (0o000, 0o777):
        before = os.umask(mask)
        try:
            keyfile.create(path)
            keyfile.next_record_version(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()


def test_the_secrets_are_in_no_repr_and_in_no_message(path: Path) -> None:
    keys = keyfile.create(path, ENTROPY)
    path.write_bytes(path.read_bytes()[:-3] + b"zz\n")
    with pytest.raises(KeyFileError) as caught:
        keyfile.read(path)
    for text in (repr(keys), str(keys), str(caught.value), repr(caught.value)):
        assert ENTROPY[:4].hex() not in text
        assert repr(ENTROPY[:4])[2:-1] not in text
        assert ENTROPY[32:36].hex() not in text


def test_an_identity_is_never_written_over(path: Path) -> None:
    keyfile.create(path, ENTROPY)
    with pytest.raises(KeyFileError, match="already"):
        keyfile.create(path)
    assert keyfile.read(path).seed == ENTROPY[:32]
    assert {p.name for p in path.parent.iterdir()} == {"node.key", "never-ran"}


def test_a_record_version_is_given_once(path: Path) -> None:
    keyfile.create(path, ENTROPY)
    versions = [keyfile.next_record_version(path).record_version for _ in range(3)]
    assert versions == [1, 2, 3]
    assert keyfile.read(path) == NodeKeys(ENTROPY[:32], ENTROPY[32:], 3)
    assert {p.name for p in path.parent.iterdir()} == {"node.key", "never-ran"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o777])
def test_a_file_that_others_may_touch_is_refused(path: Path, mode: int) -> None:
    keyfile.create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"mode 0{mode:o}.*chmod 600"):
        keyfile.read(path)
    path.chmod(0o400)
    keyfile.read(path)


def test_a_crash_while_writing_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keyfile.create(path, ENTROPY)
    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(DiskError, match="make room"):
            keyfile.next_record_version(path)
    assert keyfile.read(path) == keys
    assert keyfile.next_record_version(path).record_version == 1
    assert {p.name for p in path.parent.iterdir()} == {"node.key", "never-ran"}


def test_what_is_missing_or_no_file_is_a_clear_error(path: Path) -> None:
    with pytest.raises(KeyFileError, match="aegis-edge init"):
        keyfile.read(path)
    path.mkdir()
    with pytest.raises(KeyFileError, match="not a file"):
        keyfile.read(path)
    fifo = path / "fifo"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        keyfile.read(fifo)
    with pytest.raises(DiskError, match="folder exists"):
        keyfile.create(path / "missing" / "node.key")


def test_advice_is_of_things_that_can_be_done(path: Path) -> None:
    with pytest.raises(KeyFileError, match="restore it from your backup"):
        keyfile.read(path)
    path.write_bytes(b"damaged")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"a new cluster, begun with .*`aegis-edge genesis"):
        keyfile.read(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="count this node among the faulty"):
        keyfile.read(path)


def test_no_change_of_a_byte_goes_unnoticed(path: Path) -> None:
    keyfile.create(path, ENTROPY)
    good = path.read_bytes()
    bad = [b"", good[:-1], good + b"\n", good * 100, b"\xff" * 200, good.replace(b"\n", b"\r\n")]
    bad += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))]
    for text in bad:
        path.write_bytes(text)
        with pytest.raises(KeyFileError, match="no key file, or a damaged one"):
            keyfile.read(path)


@pytest.mark.parametrize(
    "keys",
    [
        NodeKeys(bytes(31), bytes(32)),
        NodeKeys(bytes(32), bytes(33)),
        NodeKeys(bytes(32), bytes(32), -1),
        NodeKeys(bytes(32), bytes(32), 2**63 - 1),
    ],
)
def test_well_formed_files_with_senseless_keys_are_refused(path: Path, keys: NodeKeys) -> None:
    keyfile.create(path)
    path.write_bytes(keyfile._formatted(keys))
    with pytest.raises(KeyFileError):
        keyfile.read(path)


# --- onion addresses ----------------------------------------------------------------------------


def test_a_new_onion_address_stands_beside_the_old_one_until_the_end(path: Path) -> None:
    assert keyfile.create(path, ENTROPY).onion_generations == (0,)
    before = path.read_bytes()
    keyfile.end_rotation(path, 0)
    assert path.read_bytes() == before, "without a rotation the file is as it always was"
    assert keyfile.rotate_onion(path).onion_generations == (1, 0)
    keyfile.end_rotation(path, 0)
    assert keyfile.read(path).onion_generations == (1, 0), "it was rotated since"
    keyfile.end_rotation(path, 1)
    assert keyfile.read(path).onion_generations == (1,)
    assert keyfile.rotate_onion(path, at_once=True).onion_generations == (2,)
    assert keyfile.next_record_version(path) == keyfile.read(path)
    assert keyfile.read(path).onion_generation == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_address_that_is_still_in_use_gives_way_only_at_once(path: Path) -> None:
    keyfile.create(path)
    before = keyfile.rotate_onion(path)
    with pytest.raises(RotationGoesOn, match="or give the old address up with --now"):
        keyfile.rotate_onion(path)
    assert keyfile.read(path) == before
    assert keyfile.rotate_onion(path, at_once=True).onion_generations == (2,)


# --- several processes ---------------------------------------------------------------------------

TIMES = 40


def processes(path: Path, *jobs: str) -> list[str]:
    """Does each job so many times in a process of its own, all at once; what each printed."""
    program = (
        "import sys; from pathlib import Path; from aegis_edge.disk import keyfile\n"
        "path = Path(sys.argv[1]); sys.stdin.readline()\n"
        f"for _ in range({TIMES}): print({{}})"
    )
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", program.format(job), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in jobs
    ]
    for each in begun:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0] for each in begun]
    assert [each.returncode for each in begun] == [0] * len(jobs)
    return said


def test_no_change_of_a_node_or_a_command_is_lost_while_another_makes_one(path: Path) -> None:
    keyfile.create(path)
    version = "keyfile.next_record_version(path).record_version"
    rotation = "keyfile.rotate_onion(path, at_once=True).onion_generation"
    versions, others, generations = processes(path, version, version, rotation)
    given = sorted(map(int, (*versions.split(), *others.split())))
    assert given == list(range(1, 2 * TIMES + 1)), "a version that was given twice"
    assert list(map(int, generations.split())) == list(range(1, TIMES + 1))
    keys = keyfile.read(path)
    assert (keys.record_version, keys.onion_generation) == (2 * TIMES, TIMES)


# --- keys that the service manager holds ----------------------------------------------------


@pytest.fixture
def credential(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An identity that was made in a home, and lies where systemd puts it for a service alone."""
    folder = path.parent / "credentials"
    folder.mkdir()
    keyfile.create(path, ENTROPY)
    keyfile.next_record_version(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    given = folder / keyfile.CREDENTIAL
    path.rename(given)
    given.chmod(0o440)  # an access list for the service's user shows so
    return given


def test_a_credential_is_the_identity_and_what_changes_is_kept_in_the_home(
    path: Path, credential: Path
) -> None:
    before = credential.read_bytes()
    assert keyfile.read(path) == NodeKeys(ENTROPY[:32], ENTROPY[32:], 1)
    assert keyfile.next_record_version(path).record_version == 2
    keyfile.rotate_onion(path)
    assert keyfile.read(path) == NodeKeys(ENTROPY[:32], ENTROPY[32:], 2, 1, 0)
    keyfile.end_rotation(path, 1)
    assert keyfile.read(path).onion_generations == (1,)
    counts = path.with_suffix(".counts").read_bytes()
    assert counts.startswith(b"aegis-edge counts 1\n2 1 1\ncheck = ")
    assert ENTROPY[:32].hex().encode() not in counts
    assert (credential.read_bytes(), path.exists()) == (before, False)


def test_counts_that_were_touched_or_are_of_another_node_are_refused(
    path: Path, credential: Path
) -> None:
    keyfile.next_record_version(path)
    counts = path.with_suffix(".counts")
    good = counts.read_bytes()
    for text in (b"", good.replace(b"\n2 0 0", b"\n1 0 0"), good + b"x", b"x\n-1 0 0\n", good[:-9]):
        counts.write_bytes(text)
        with pytest.raises(KeyFileError, match=r"node\.counts is damaged, or of another node"):
            keyfile.read(path)
    counts.write_bytes(good)
    other = keyfile.create(path.parent / "other")
    credential.chmod(0o600)
    credential.write_bytes((path.parent / "other").read_bytes())
    assert other.seed != ENTROPY[:32]
    with pytest.raises(KeyFileError, match="of another node"):
        keyfile.read(path)


def test_one_identity_at_a_time(path: Path, credential: Path) -> None:
    path.write_bytes(credential.read_bytes())
    with pytest.raises(KeyFileError, match=r"has a credential .* too; remove one"):
        keyfile.read(path)


def test_who_has_no_credential_reads_the_file_or_hears_who_has_the_keys(
    path: Path, credential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyfile.next_record_version(path)
    credential.rename(path)
    path.chmod(0o600)
    assert keyfile.read(path).record_version == 1
    path.unlink()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyFileError, match="are a credential of its service; run this beside"):
        keyfile.read(path)


def test_a_damaged_credential_is_a_clear_error(path: Path, credential: Path) -> None:
    credential.chmod(0o600)
    credential.write_bytes(b"x" * 5_000)
    with pytest.raises(KeyFileError, match="is no key file, or a damaged one"):
        keyfile.read(path)
