"""The identity of a node on disk: two private keys, and what of it must never go back: the version
of its last node record, and which of its onion addresses is the last.

Knows how to keep a secret file: 0600, written beside and renamed, synced with its folder; and that
a node and a command may change it at once, so whoever does holds its folder's lock (flock(2)).
A service manager may hold the keys instead (systemd.exec(5), LoadCredential=): then the home has
nothing but what changes.
Refuses to know what the keys sign.  The Ed25519 seed and the Noise key are independent random
bytes, so that losing one says nothing about the other.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aegis_edge.crypto import sodium
from aegis_edge.disk.errors import DiskError, disk_errors
from aegis_edge.disk.schema import mark_new, sync_folder

ENTROPY_BYTES = 64
#: The credential that holds a key file, and the file beside where that was that holds its counts.
CREDENTIAL = "aegis-edge.identity"
COUNTS_SUFFIX = ".counts"
_FIRST_LINE = "aegis-edge identity 1"
_COUNTS_LINE = "aegis-edge counts 1"
_CHECK_DOMAIN = b"aegis-edge keys"
_SIZE_BYTES_MAX = 1024
_VERSION_MAX = 2**63 - 1
#: Onion addresses in use at once: the last one and, until all members know it, the one before.
GENERATIONS_MAX = 2


class KeyFileError(DiskError):
    """The key file is missing, unsafe or damaged; the message never shows what is in it."""

    exit_code = os.EX_CONFIG


class RotationGoesOn(DiskError):
    """There are as many onion addresses in use as there may be; nothing is wrong with the disk."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """What a key file holds.  `record_version`: of the last node record that was signed.

    `onion_generation` counts the rotations of its onion address; `onion_oldest` is the generation
    from which on addresses are still in use.
    """

    seed: bytes = field(repr=False)
    noise_private: bytes = field(repr=False)
    record_version: int = 0
    onion_generation: int = 0
    onion_oldest: int = 0

    @property
    def public(self) -> bytes:
        """The Ed25519 public key (32 bytes): who the node is."""
        return sodium.ed25519_keypair(self.seed)[0]

    @property
    def onion_generations(self) -> tuple[int, ...]:
        """The generations of its onion address that are in use, the last one first."""
        return tuple(range(self.onion_generation, self.onion_oldest - 1, -1))

    @property
    def noise_public(self) -> bytes:
        """The X25519 public key (32 bytes) that its links prove."""
        return sodium.x25519_public(self.noise_private)


def create(path: Path, entropy: bytes | None = None) -> NodeKeys:
    """Make a new identity at `path`, from 64 bytes of entropy (None: the system's).

    Marks the folder: an identity that was made here has not run yet, one that is put here may have.
    Raises `KeyFileError` if there is one already, for an identity cannot be made again.
    """
    entropy = os.urandom(ENTROPY_BYTES) if entropy is None else entropy
    assert len(entropy) == ENTROPY_BYTES, "two keys take 64 bytes of entropy"
    keys = NodeKeys(entropy[:32], entropy[32:])
    with disk_errors(path), _alone(path):
        fresh = _written(path, _formatted(keys))
        try:
            os.link(fresh, path)
        except FileExistsError:
            raise KeyFileError(
                f"{path} holds an identity already",
                "use it, or move it away first: whoever loses it cannot be that node again",
            ) from None
        finally:
            fresh.unlink()
            sync_folder(path.parent)
    mark_new(path.parent, keys.public)
    return keys


def read(path: Path) -> NodeKeys:
    """The keys at `path`, or those that the service manager holds.

    Raises `KeyFileError` if there are none or two, others may read them, or they are damaged.
    """
    given = _credential(os.environ)
    if given is None:
        return _parsed(path, _text(path))
    if path.exists():
        raise KeyFileError(
            f"{path} is there, and the service has a credential {CREDENTIAL} too",
            "remove one of them: keep the one with which this node ran last",
        )
    with disk_errors(given):
        keys = _parsed(given, given.read_bytes()[: _SIZE_BYTES_MAX + 1])
    return _with_counts(_counts(path), keys)


def _credential(environment: Mapping[str, str]) -> Path | None:
    """The key file that the service manager gave to this process alone, if it did."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder or not (found := Path(folder, CREDENTIAL)).exists():
        return None
    return found


def _text(path: Path) -> bytes:
    with disk_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise _missing(path) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path} is not a file", "name the key file itself")
            if status.st_mode & 0o077:
                raise KeyFileError(
                    f"{path} may be read by others (mode {status.st_mode & 0o777:04o})",
                    f"run chmod 600 {path}; if others had access, count this node among the "
                    "faulty ones that its cluster bears",
                )
            return os.read(descriptor, _SIZE_BYTES_MAX + 1)
        finally:
            os.close(descriptor)


def _missing(path: Path) -> KeyFileError:
    if _counts(path).exists():
        return KeyFileError(
            f"{path} does not exist: the keys of this node are a credential of its service",
            "run this beside the service, as in systemd-run --pipe --uid=aegis-edge -p "
            f"LoadCredential={CREDENTIAL} aegis-edge record",
        )
    return KeyFileError(
        f"{path} does not exist",
        "run aegis-edge init to make an identity, or, if this node had one, restore it from your "
        "backup",
    )


def _counts(path: Path) -> Path:
    return path.with_suffix(COUNTS_SUFFIX)


def _with_counts(path: Path, keys: NodeKeys) -> NodeKeys:
    """The keys of a credential with what changed since that was made, which is at `path`."""
    with disk_errors(path):
        try:
            text = path.read_bytes()[: _SIZE_BYTES_MAX + 1]
        except FileNotFoundError:  # nothing did
            return keys
    try:
        version, last, oldest = map(int, text.split(b"\n")[1].split(b" "))
    except (IndexError, ValueError):
        version, last, oldest = -1, 0, 0
    found = replace(keys, record_version=version, onion_generation=last, onion_oldest=oldest)
    if version < 0 or _formatted_counts(found) != text:
        raise KeyFileError(
            f"{path} is damaged, or of another node",
            "restore it from your backup: with older counts the others refuse this node",
        )
    return found


def next_record_version(path: Path) -> NodeKeys:
    """The keys at `path` with a record version that was never used; durable when it returns."""
    return _changed(path, lambda keys: replace(keys, record_version=keys.record_version + 1))


def rotate_onion(path: Path, *, at_once: bool = False) -> NodeKeys:
    """The keys at `path` with one more onion address; durable when it returns.

    The one before it stays in use until `end_rotation`, or, `at_once`, no longer.  Raises
    `RotationGoesOn` where one before that is still in use.
    """

    def rotated(keys: NodeKeys) -> NodeKeys:
        if not at_once and len(keys.onion_generations) == GENERATIONS_MAX:
            raise RotationGoesOn(
                "the last rotation goes on: not every member knows the new address yet",
                "see aegis-edge peers for who is missing, and wait until all have been linked; or"
                " give the old address up with --now",
            )
        last = keys.onion_generation + 1
        oldest = last if at_once else keys.onion_oldest
        return replace(keys, onion_generation=last, onion_oldest=oldest)

    return _changed(path, rotated)


def end_rotation(path: Path, generation: int) -> None:
    """Give up the onion addresses before `generation`, unless there was a rotation since."""

    def ended(keys: NodeKeys) -> NodeKeys:
        is_last = keys.onion_generation == generation
        return replace(keys, onion_oldest=generation) if is_last else keys

    _changed(path, ended)


def _changed(path: Path, change: Callable[[NodeKeys], NodeKeys]) -> NodeKeys:
    """What `change` makes of the keys at `path`, while nobody else changes them."""
    with disk_errors(path), _alone(path):
        before = read(path)
        keys = change(before)
        if keys != before:
            is_here = _credential(os.environ) is None
            target = path if is_here else _counts(path)
            text = _formatted(keys) if is_here else _formatted_counts(keys)
            _written(target, text).replace(target)
            sync_folder(path.parent)
    return keys


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits for others who change the file; of the folder, for the file itself is replaced."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _written(path: Path, text: bytes) -> Path:
    """A synced file beside `path` that holds `text`; a left-over of a crash is written over."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    return fresh


def _formatted(keys: NodeKeys) -> bytes:
    lines = (
        _FIRST_LINE,
        f"seed = {keys.seed.hex()}",
        f"noise = {keys.noise_private.hex()}",
        f"record_version = {keys.record_version}",
        # As it was before there were rotations, while there are none.
        *(
            [f"onion = {keys.onion_generation} {keys.onion_oldest}"]
            if keys.onion_generation
            else ()
        ),
        "",
    )
    body = "\n".join(lines).encode()
    return body + f"check = {sodium.digest(_CHECK_DOMAIN, body)[:8].hex()}\n".encode()


def _formatted_counts(keys: NodeKeys) -> bytes:
    counts = f"{keys.record_version} {keys.onion_generation} {keys.onion_oldest}"
    body = f"{_COUNTS_LINE}\n{counts}\n".encode()
    check = sodium.digest(_CHECK_DOMAIN, keys.public + body)[:8].hex()
    return body + f"check = {check}\n".encode()


def _parsed(path: Path, text: bytes) -> NodeKeys:
    damaged = KeyFileError(
        f"{path} is no key file, or a damaged one",
        "restore it from your backup; without one nobody can be this member again: the others "
        "go on without it, but to have all boards again takes a new cluster, begun with a new "
        "identity here and `aegis-edge genesis create`",
    )
    lines = text.split(b"\n")
    if len(lines) not in (6, 7) or len(text) > _SIZE_BYTES_MAX:
        raise damaged
    try:
        seed, noise, version, *onion = (line.split(b" = ")[1].decode() for line in lines[1:-2])
        last, oldest = map(int, onion[0].split(" ")) if onion else (0, 0)
        keys = NodeKeys(bytes.fromhex(seed), bytes.fromhex(noise), int(version), last, oldest)
    except (IndexError, ValueError):
        raise damaged from None
    # Only what we would write ourselves is accepted: this checks names, lengths and the check line.
    if (
        len(keys.seed) != 32
        or len(keys.noise_private) != 32
        or not 0 <= keys.record_version < _VERSION_MAX
        or not 0 <= keys.onion_oldest <= keys.onion_generation < _VERSION_MAX
        or len(keys.onion_generations) > GENERATIONS_MAX
        or _formatted(keys) != text
    ):
        raise damaged
    return keys
