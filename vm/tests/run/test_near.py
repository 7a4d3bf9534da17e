"""Tests near what a tree's last commit touches run first."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels.spec import Kernel
from vm.run import first, near
from vm.run.near import Near

HASH = """\
static int hash_sendmsg(struct socket *sock)
{
	int a;

	a = 1;
	return a;
}

static int hash_recvmsg(struct socket *sock)
{
	int b;

	b = 1;
	return b;
}

static const struct ops algif_hash_ops = {
	.recvmsg = hash_recvmsg,
	.sendmsg = hash_sendmsg,
	.bind = no_bind,
	.family = 1,
};
"""
KNOWN = Near(
    ("t.py::a", "t.py::b[x]", "t.py::c"),
    {"algif_hash:hash_sendmsg": [1, 0], "algif_hash:hash_recvmsg": [0, 2], "gcm:gcm_setkey": [2]},
)


def git(tree: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "-C", str(tree), *who, *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with one commit, and a built image in it."""
    place = tmp_path / "linux"
    (place / "crypto").mkdir(parents=True)
    (place / "arch" / "x86" / "boot").mkdir(parents=True)
    for name in ("Kbuild", "MAINTAINERS", "arch/x86/boot/bzImage"):
        (place / name).write_text("")
    (place / "crypto" / "algif_hash.c").write_text(HASH)
    (place / ".gitattributes").write_text("*.c diff=cpp\n")
    git(place, "init", "-q")
    git(place, "add", ".")
    git(place, "commit", "-qm", "one")
    return place


def kernel(tree: Path) -> Kernel:
    return Kernel("7.4", str(tree), "7.4.0", tree / "arch/x86/boot/bzImage")


def change(tree: Path, old: str, new: str) -> None:
    file = tree / "crypto" / "algif_hash.c"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_last_commit_and_what_is_not_committed(tree: Path) -> None:
    git(tree, "commit", "-qm", "two", "--allow-empty")
    assert near.touched(KNOWN, tree) == []
    change(tree, "b = 1", "b = 2")
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_recvmsg"]
    git(tree, "commit", "-qam", "three")
    change(tree, "a = 1", "a = 2")
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_sendmsg", "algif_hash:hash_recvmsg"]
    git(tree, "commit", "-qam", "four")
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_sendmsg"]


def test_first_commit_has_nothing_before_it(tree: Path) -> None:
    assert near.touched(KNOWN, tree) == []
    change(tree, "a = 1", "a = 2")
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_sendmsg"]


def test_change_of_a_table_is_one_of_its_file(tree: Path) -> None:
    git(tree, "commit", "-qm", "two", "--allow-empty")
    change(tree, ".family = 1", ".family = 2")
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_sendmsg", "algif_hash:hash_recvmsg"]


def test_functions_that_come_go_or_change_in_their_first_line(tree: Path) -> None:
    """Git names the function before, which is not touched."""
    git(tree, "commit", "-qm", "two", "--allow-empty")
    change(tree, "static int hash_recvmsg(struct socket *sock)", "int hash_recvmsg(struct socket *sock, int flags)")
    assert "algif_hash:hash_recvmsg" in near.touched(KNOWN, tree)
    (tree / "crypto" / "algif_hash.c").unlink()
    assert near.touched(KNOWN, tree) == ["algif_hash:hash_sendmsg", "algif_hash:hash_recvmsg"]


def test_what_touches_too_much_is_near_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST", 1)
    git(tree, "rm", "-q", "crypto/algif_hash.c")
    assert near.touched(KNOWN, tree) == []


def test_tree_of_a_build_directory_and_of_a_tree_built_apart(tree: Path, tmp_path: Path) -> None:
    apart = tmp_path / "build"
    apart.mkdir()
    (apart / "source").symlink_to(tree)
    (apart / "bzImage").write_text("")
    assert near.tree_of(Kernel("7.4", str(apart), "7.4.0", apart / "bzImage")) == tree
    (tmp_path / "cache").mkdir()
    assert near.tree_of(Kernel("7.4", str(tree), "7.4.0", tmp_path / "cache" / "vmlinuz")) == tree
    assert near.tree_of(Kernel("7.4", "trixie/7.4", "7.4.0", tmp_path / "cache" / "vmlinuz")) is None


def test_no_repository_is_nothing_near(tree: Path) -> None:
    (tree / ".git").rename(tree / "not-git")
    assert near.touched(KNOWN, tree) == []


def test_nearest_of_each_function_before_the_second_nearest() -> None:
    assert near.near(KNOWN, ["algif_hash:hash_sendmsg", "algif_hash:hash_recvmsg"]) == [
        "t.py::a",
        "t.py::b[x]",
        "t.py::c",
    ]
    assert near.near(KNOWN, ["gcm:gcm_setkey"]) == ["t.py::c"]
    assert near.near(KNOWN, []) == []


def test_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "near.json"
    near.save(file, {"b:f": ["t.py::z", "t.py::a"], "a:f": ["t.py::z"]})
    assert near.load(file) == Near(("t.py::a", "t.py::z"), {"a:f": [1], "b:f": [1, 0]})
    assert near.load(None) == near.load(tmp_path / "none") == Near()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tests": ["t"]}', '{"tests": ["t"], "functions": {"f": [1]}}', '{"tests": 1, "functions": {}}']
)
def test_what_is_no_map_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "near.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="write it anew"):
        near.load(file)


def test_bad_ones_come_before_near_ones(tree: Path, tmp_path: Path) -> None:
    git(tree, "commit", "-qm", "two", "--allow-empty")
    change(tree, "a = 1", "a = 2")
    file = tmp_path / "near.json"
    file.write_text(json.dumps({"tests": KNOWN.tests, "functions": dict(KNOWN.functions)}))
    runs = tmp_path / "results"
    (runs / "1").mkdir(parents=True)
    (runs / "latest").symlink_to("1")
    event = {"event": "test ended", "kernel": "7.4", "result": {"test": "t.py::z", "verdict": "failed"}}
    (runs / "1" / "events.jsonl").write_text(json.dumps(event) + "\n")
    found = first.chosen(runs / "2", [kernel(tree)], file)
    assert found.ranks == {"7.4": {"t.py::z": 0, "t.py::b[x]": 1, "t.py::a": 2}}
    assert found.lines == [
        "first: 1 test that the run before had as bad, if selected (not with --in-order)",
        "first: 2 tests near what changed in the tree of 7.4: algif_hash:hash_sendmsg",
    ]


def test_map_is_read_only_for_a_tree(tree: Path, tmp_path: Path) -> None:
    """Most kernels are packages, and nothing is near those."""
    file = tmp_path / "near.json"
    file.write_text("no map")
    package = Kernel("7.3", "7.3", "7.3.0", tmp_path / "cache" / "vmlinuz")
    assert first.chosen(tmp_path / "results" / "1", [package], file).ranks == {"7.3": {}}
    with pytest.raises(UsageError, match="no map of tests"):
        first.chosen(tmp_path / "results" / "1", [package, kernel(tree)], file)
