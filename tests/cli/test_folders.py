"""kb import and export: there and back, and nothing outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegis_edge.cli import folders
from aegis_edge.client import ClientError, Disconnected, Pipeline, Written
from tests.api.node import Failure, Replication
from tests.cli.conftest import Cli


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_text("hello\n")
    (root / "data.json").write_text('{ "x": 1 }\n')
    (root / "broken.json").write_text("{")
    (root / "deep" / "er" / "kürbis.bin").write_bytes(bytes(range(256)))
    (root / "empty").write_bytes(b"")
    return root


def test_there_and_back(cli: Cli, node: Replication, documents: Path, tmp_path: Path) -> None:
    said = cli("kb", "import", documents, "docs")
    assert said.code == 0
    assert "5 files" in said.out
    assert cli("kb", "get", "docs/data.json", "--json").json["value"] == {"x": 1}
    assert cli("kb", "get", "docs/broken.json", "--json").json["media"] == "bytes"
    cli("kb", "put", "other/key", "x")
    assert cli("kb", "export", "docs", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(documents)
    assert cli("kb", "export", "--prefix", "docs/", tmp_path / "again", "--json").json["files"] == 5
    assert cli("kb", "export", tmp_path / "all").code == 0
    assert (tmp_path / "all" / "other" / "key").exists()


def test_what_is_there_already_is_not_written_again(
    cli: Cli, node: Replication, documents: Path
) -> None:
    assert "5 files, 274 B; 0 unchanged, 0 skipped" in cli("kb", "import", documents, "docs").out
    before = node.revision
    said = cli("kb", "import", documents, "docs")
    assert said.code == 0
    assert "0 files, 0 B; 5 unchanged, 0 skipped" in said.out
    assert node.revision == before
    assert node.barriers == 1, "this node's copy may be behind, at most at the first look"
    (documents / "a.txt").write_text("HELLO\n")  # of the same length
    (documents / "broken.json").write_text("1")  # of the same length, and JSON now
    (documents / "empty").write_text("more")
    cli("kb", "rm", "docs/data.json")
    said = cli("kb", "import", documents, "docs", "--json")
    assert (said.json["files"], said.json["unchanged"]) == (4, 1)
    assert node.revision == before + 5
    assert cli("kb", "get", "docs/broken.json", "--json").json["value"] == 1


def test_a_key_that_goes_while_it_is_looked_at_is_written(
    cli: Cli, node: Replication, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("kb", "import", documents)
    monkeypatch.setattr(node.database, "get", lambda *_: None)
    assert cli("kb", "import", documents, "--json").json["files"] == 5


def test_many_files_settle_on_the_way(
    cli: Cli, node: Replication, documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SETTLE_FILES", 2)
    assert cli("kb", "import", documents, "--prefix", "p", "--json").json["files"] == 5
    assert len(node.database.newest) == 5


def test_what_cannot_be_imported_is_skipped_and_named(
    cli: Cli, node: Replication, documents: Path, tmp_path: Path
) -> None:
    (documents / "huge").write_bytes(b"x" * 300_000)
    (documents / "bad\nname").write_text("x")
    (documents / "link").symlink_to("/etc/passwd")
    (documents / "out").symlink_to("/etc")
    said = cli("kb", "import", documents)
    assert said.code == 1
    assert "5 files" in said.out
    assert "2 skipped" in said.out
    assert "huge: 293.0 KiB; a value has at most 256.0 KiB" in said.err
    skipped = cli("kb", "import", documents, "--json").json["skipped"]
    assert {Path(row["path"]).name for row in skipped} == {"huge", "bad\nname"}
    assert cli("kb", "import", tmp_path / "missing").code == 2


def test_what_the_node_refuses_is_named(cli: Cli, node: Replication, documents: Path) -> None:
    node.failing = Failure("no_quorum")
    said = cli("kb", "import", documents)
    assert said.code == 1
    assert "the node says no_quorum" in said.err


def test_an_export_stays_in_its_directory_and_overwrites_nothing(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    cli("kb", "put", "d/secret", "x")
    cli("kb", "put", "mine", "new")
    cli("kb", "put", "fine", "x")
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "d").symlink_to(outside)
    (target / "mine").write_text("old")
    said = cli("kb", "export", target)
    assert said.code == 1
    assert "skipped d/secret" in said.err
    assert "skipped mine: it is there already, and nothing is overwritten" in said.err
    assert list(outside.iterdir()) == []
    assert (target / "mine").read_text() == "old"
    assert (target / "fine").read_text() == "x"
    assert cli("kb", "export", "a", "b", target).code == 2


def test_an_import_that_ends_early_says_how_far_it_came(
    cli: Cli, documents: Path, node: Replication, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, settled = Pipeline.settle, []

    def once(pipeline: Pipeline) -> list[Written | ClientError]:
        if settled:
            raise Disconnected("the node closed the connection")
        settled.append(settle(pipeline))
        return settled[0]

    monkeypatch.setattr(folders, "SETTLE_FILES", 2)
    monkeypatch.setattr(Pipeline, "settle", once)
    said = cli("kb", "import", documents)
    assert said.code == 1
    assert (
        "2 files written; others may be yet.  Import again: what is there is left as it is"
        in said.err
    )


HOSTILE = (
    *("../evil", "a/../../evil", "/etc/evil", "a//b", ".", "a/./b", "x\x00y", "k" * 600),
    *("a\\b", "..\\evil", "\u034f./x", "\ufe0f..\U000e0100/x", "\u3164"),  # Windows; seen by nobody
    *("\u200c./x", "b/.\u200d./x", ".../x", ". ./x", " ./x"),  # other file systems see ".", ".."
)
HIDDEN = (
    ".bashrc",
    "a/.git/hooks/x",
    "a/.GIT/config",
    "\u200c.git/hooks/x",  # HFS+ looks away from characters that nobody sees
    *(f"{unseen}.git{unseen}/x" for unseen in "\u034f\u115f\u17b4\u180b\ufe0f\uffa0\U000e01ef"),
    "GIT~1/hooks/x",  # what a FAT card calls .git as well
)


def test_no_key_leads_an_export_out_of_its_directory(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    target = tmp_path / "in" / "target"
    for key in (*HOSTILE, "fine"):
        node.write(key, b"evil", 0, False)  # as no honest node would ever hold it
    for more in ((), ("--dotfiles",)):
        said = cli("kb", "export", target, "--json", *more)
        assert said.code == 1
        skipped = {row["key"] for row in said.json["skipped"]}
        assert skipped >= set(HOSTILE)
    assert tree(tmp_path / "in") == {"target/fine": b"evil"}
    assert not (tmp_path / "evil").exists()


def test_dotfiles_are_written_only_if_a_flag_says_so(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    for key in (*HIDDEN, "a/plain", "notes/v1.2", "a~1b/c"):
        assert cli("kb", "put", key, "x").code == 0
    said = cli("kb", "export", tmp_path / "out")
    assert said.code == 1
    assert "3 files" in said.out
    assert f"{len(HIDDEN)} skipped" in said.out
    assert "skipped .bashrc: a hidden name; --dotfiles writes it too" in said.err
    assert set(tree(tmp_path / "out")) == {"a/plain", "notes/v1.2", "a~1b/c"}
    assert cli("kb", "export", tmp_path / "all", "--dotfiles").code == 0
    assert len(tree(tmp_path / "all")) == len(HIDDEN) + 3


def test_a_prefix_that_a_person_typed_may_be_hidden(
    cli: Cli, node: Replication, tmp_path: Path
) -> None:
    cli("kb", "put", ".config/tool/settings", "x")
    assert cli("kb", "export", ".config/tool", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == {"settings": b"x"}


def test_a_key_that_goes_during_an_export_is_no_failure(
    cli: Cli, node: Replication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a", "b"):
        cli("kb", "put", key, "x")
    listed = node.database.ls

    def then_gone(*asked: object) -> object:
        found = listed(*asked)  # type: ignore[arg-type]
        node.write("a", b"", 0, True)
        return found

    monkeypatch.setattr(node.database, "ls", then_gone)
    said = cli("kb", "export", tmp_path / "out")
    assert said.code == 0
    assert tree(tmp_path / "out") == {"b": b"x"}
