"""The files of ci/: each against its service's schema, and its commands done as that service does them.

What a service itself does (a checkout, an artifact, a container) is played here. Tests and guests are stubs: what is
tried is the way from the words to the results.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from vm.base.files import ROOT
from vm.results import events
from vm.tests import archive
from vm.tests.ci.test_command import signals, tmt_results
from vm.tests.test_readme import clone, stub

pytestmark = pytest.mark.deadline(300)

CI = ROOT / "ci"
README = (CI / "README.md").read_text()
# Plays docker and podman: what is to run in a container of this image runs in the checkout, its volumes linked there.
ENGINE = """\
#!/bin/sh
echo "${0##*/} $*" >>"$NOTES"
case $1 in build) exit ;; esac
program=make first=test
while [ "$1" != af-alg-tests ]; do
    case $1 in
    --entrypoint) program=$2 first= ;;
    --env) export "$2" ;;
    --volume)
        case $2 in
        *:/summary) export GITHUB_STEP_SUMMARY="${2%:*}" ;;
        "$CHECKOUT"/*) ;;
        *:/af-alg-tests/results) rm -rf "$CHECKOUT/results"; ln -s "${2%:*}" "$CHECKOUT/results" ;;
        *) ;;
        esac ;;
    esac
    shift
done
shift
unset AFALG_CACHE
cd "$CHECKOUT" && exec "$program" $first "$@"
"""


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


class Site:
    """A checkout whose tests are stubs, and a machine where a service's programs are stubs.

    Args:
        root: an empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.suite = root / "suite"
        clone(self.suite)
        stub(self.suite)
        self.programs = root / "programs"
        self.programs.mkdir()
        self.notes = root / "notes"
        for name in ("docker", "podman"):
            self.program(name, ENGINE)
        for name in ("sudo", "apt-get"):
            self.program(name, f'#!/bin/sh\necho "{name} $*" >>"$NOTES"\n')
        self.program("lava-test-case", '#!/bin/sh\necho "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=$1 RESULT=$3>"\n')

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def does(
        self, script: str, place: Path, shell: str = "sh -e", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Do a script as a service does it, below ``place``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AFALG_", "CI"))}
        environment = {**kept, "NOTES": str(self.notes), "CHECKOUT": str(self.suite), **variables}
        environment["PATH"] = f"{self.programs}:{kept['PATH']}"
        done = subprocess.run(
            [*shell.split(), "-c", script], cwd=place, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
        )  # fmt: skip
        print(script, done.stdout, f"status {done.returncode}", sep="\n")
        assert "Traceback" not in done.stdout
        return done


@pytest.fixture
def site() -> Iterator[Site]:
    """Give one in a directory that anybody may read."""
    for root in archive.temporary_root():
        yield Site(root)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("github.yml", ["--builtin-schema", "vendor.github-workflows"]),
        ("gitlab.yml", ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_the_yaml_keeps_to_its_schema(file: str, options: list[str], tmp_path: Path) -> None:
    checker = [sys.executable, "-m", "check_jsonschema", *options]
    done = subprocess.run([*checker, str(CI / file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    (tmp_path / file).write_text((CI / file).read_text().replace("script:", "scripts:").replace("runs-on", "runs_on"))
    done = subprocess.run([*checker, str(tmp_path / file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1


def test_lava_knows_each_key() -> None:
    """As its schema of test definitions has them."""
    said = yaml(CI / "lava.yaml")
    assert set(said) <= {"metadata", "install", "parameters", "params", "parse", "run"}
    assert said["metadata"]["format"] == "Lava-Test Test Definition 1.0"
    keys = {"format", "name", "description", "environment", "devices", "maintainer", "scope", "os"}
    assert {"format", "name"} <= set(said["metadata"]) <= keys
    assert all(isinstance(step, str) for step in said["run"]["steps"])


def test_tmt_knows_each_key() -> None:
    """``tmt lint`` says the same, and is too large to be installed for that."""
    assert (ROOT / ".fmf/version").read_text() == "1\n"
    said = yaml(CI / "tmt.fmf")
    assert set(said) == {"summary", "discover", "execute"}
    assert said["discover"]["how"] == "shell"
    (test,) = said["discover"]["tests"]
    assert set(test) == {"name", "test", "result", "duration"}
    assert test["result"] == "custom"
    assert re.fullmatch(r"\d+[smhd]", test["duration"])
    assert said["execute"]["how"] == "tmt"


@pytest.mark.parametrize("bad", [False, True])
def test_lava_runs_the_steps(bad: bool, site: Site) -> None:
    if bad:
        page_cache = site.suite / "tests/splice/test_page_cache.py"
        page_cache.write_text(page_cache.read_text() + "\n\ndef test_bad():\n    assert False\n")
    said = yaml(CI / "lava.yaml")
    script = "\n".join(["set -e", *said["run"]["steps"], 'echo "<LAVA_SIGNAL_ENDRUN>"'])
    done = site.does(script, site.suite, **said["params"])
    found = signals(done.stdout)
    assert found.pop("run") == ("fail" if bad else "pass")
    assert [name.rpartition("::")[2] for name in found] == ["test_stub", "test_gcm", *(["test_bad"] if bad else [])]
    assert "<LAVA_SIGNAL_ENDRUN>" in done.stdout, "a step that fails ends the script, and nobody hears of the run"


def test_tmt_runs_the_test(site: Site) -> None:
    (test,) = yaml(CI / "tmt.fmf")["discover"]["tests"]
    data = site.root / "data"
    data.mkdir()
    plan = {"TMT_TEST_DATA": str(data), "TMT_PLAN_DATA": str(site.root), "TMT_REBOOT_COUNT": "0"}
    done = site.does(test["test"], site.suite, "bash -eo pipefail", **plan)
    assert done.returncode == 0
    found = tmt_results((data / "results.yaml").read_text())
    assert {name.rpartition("::")[2]: one["result"] for name, one in found.items()} == {
        "/": "pass", "test_stub": "pass", "test_gcm": "pass",
    }  # fmt: skip


@pytest.mark.parametrize(("words", "status"), [("", 0), (" -k nothing_is_so", 1), (" --no-such-option", 1)])
def test_nipa_runs_the_script_in_a_tree(words: str, status: int, site: Site) -> None:
    """As its executor does: split at white space, with three variables, in the tree."""
    tree, results = site.root / "tree", site.root / "results"
    tree.mkdir()
    results.mkdir()
    nipa = {"BRANCH": "net-next", "BASE": "net-next-base", "RESULTS_DIR": str(results), "KERNEL": "running"}
    done = site.does(f"{site.suite}/ci/nipa.sh{words}", tree, **nipa)
    assert done.returncode == status
    if not status:
        assert events.load(results / "latest").status == 0
        assert "TAP version 13" in done.stdout.splitlines()


def test_nipa_takes_the_tree_for_the_kernel(site: Site) -> None:
    tree = site.root / "a tree"
    tree.mkdir()
    (site.suite / "ci/run").write_text('#!/bin/sh\necho "$KERNEL $*"\n')
    assert site.does(f"{site.suite}/ci/nipa.sh", tree).stdout.endswith(f"{tree} nipa\n")


def test_a_machine_that_cannot_be_set_up_is_a_failure(site: Site) -> None:
    """vm/setup.sh ends with 4."""
    (site.suite / "vm/setup.sh").write_text("#!/bin/sh\nexit 4\n")
    done = site.does(f"{site.suite}/ci/nipa.sh", site.root, RESULTS_DIR=str(site.root), KERNEL="running")
    assert done.returncode == 1


def test_gitlab_runs_its_jobs(site: Site) -> None:
    said = yaml(CI / "gitlab.yml")
    one, whole = said["af_alg"], said["af_alg_together"]
    for number, shard in enumerate(one["parallel"]["matrix"][0]["SHARD"], 1):
        job = {"KERNEL": "running", "SHARD": shard, "CI_JOB_ID": str(number), "CI_PROJECT_DIR": str(site.suite)}
        scripts = [*said[".af_alg"]["before_script"], *one["script"]]
        assert site.does("\n".join(scripts), site.suite, "bash -eo pipefail", **job).returncode == 0
        assert site.does("\n".join(one["after_script"]), site.suite, "bash -eo pipefail", **job).returncode == 0
        assert list(site.suite.glob(one["artifacts"]["reports"]["junit"]))
    assert site.does("\n".join(whole["script"]), site.suite, "bash -eo pipefail").returncode == 0
    (kernel,) = events.load(site.suite / "all").kernels
    assert len(kernel.tests) == 2
    shutil.rmtree(site.suite / "all")
    shutil.rmtree(site.suite / "parts/2")
    done = site.does("\n".join(whole["script"]), site.suite, "bash -eo pipefail")
    assert done.returncode == 1
    assert "missing: shard 2/2" in done.stdout


class Workflow:
    """Plays GitHub: the steps of a job in order, those that use an action by what that action does.

    Args:
        site: where.
        variables: what expressions of the file stand for.
    """

    def __init__(self, site: Site, variables: dict[str, str]) -> None:
        self.site, self.variables = site, variables
        self.place = site.root / "workspace"
        self.artifacts = site.root / "artifacts"
        self.summary = site.root / "summary.md"
        self.output = site.root / "output"
        self.summary.touch()

    def run(self, job: dict[str, Any]) -> bool:
        """Run a job in a workspace of its own; return whether it is good."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        good = True
        for step in job["steps"]:
            if step.get("if", "") != "always()" and (not good or "if" in step):
                continue
            if "uses" in step:
                self._action(step["uses"].partition("@")[0], step.get("with", {}))
            else:
                environment = {name: self._value(value) for name, value in job.get("env", {}).items()}
                environment |= {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output)}
                done = self.site.does(self._value(step["run"]), self.place, "bash -e", **environment)
                good = good and done.returncode == 0
        return good

    def _action(self, action: str, given: dict[str, str]) -> None:
        if action == "actions/checkout" and given["path"] == "suite":
            (self.place / "suite").symlink_to(self.site.suite)
        elif action == "actions/upload-artifact":
            name = self._value(given["name"])
            assert re.fullmatch(r'[^":<>|*?\r\n\\/]+', name), "what it refuses in a name"
            # What stands before the first wildcard is left out.
            base, _, pattern = given["path"].partition("20*")
            above = self.place / base
            for found in above.glob("20*") if pattern else [above]:
                if found.is_dir() and not found.is_symlink():
                    shutil.copytree(found, self.artifacts / name / (found.name if pattern else ""))
        elif action == "actions/download-artifact":
            for found in self.artifacts.glob(given["pattern"]):
                shutil.copytree(found, self.place / given["path"] / found.name)
        else:
            assert action == "actions/cache"

    def _value(self, text: str) -> str:
        if self.output.exists():
            lines = dict(line.split("=", 1) for line in self.output.read_text().splitlines())
            self.variables |= {f"steps.artifact.outputs.{name}": value for name, value in lines.items()}
        return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: self.variables[found[1]], text)


def test_github_runs_its_jobs(site: Site) -> None:
    said = yaml(CI / "github.yml")
    names = dict.fromkeys(("steps.artifact.outputs.name", "inputs.arguments"), "")
    for shard in ("1/2", "2/2"):
        flow = Workflow(
            site, {**names, "matrix.kernel": "running", "matrix.shard": shard, "strategy.job-index": shard[0]}
        )
        assert flow.run(said["jobs"]["test"])
        assert flow.summary.read_text().count("## Kernel tests: all well") == int(shard[0])
    assert {path.name for path in flow.artifacts.iterdir()} == {"part-1-running-1_2", "part-2-running-2_2"}
    assert "udevadm" in site.notes.read_text()
    assert "docker build --quiet --tag af-alg-tests --file suite/ci/Containerfile suite" in site.notes.read_text()
    assert flow.run(said["jobs"]["together"])
    (kernel,) = events.load(flow.artifacts / "all").kernels
    assert len(kernel.tests) == 2
    assert (flow.artifacts / "all/index.html").exists()
    shutil.rmtree(flow.artifacts / "part-1-running-1_2")
    shutil.rmtree(flow.artifacts / "all")
    assert not flow.run(said["jobs"]["together"]), "a part is missing"


def test_a_container_has_what_make_takes(site: Site) -> None:
    done = site.does("suite/ci/in_container.sh podman ci/run gitlab -k gcm", site.root, KERNEL="running")
    assert done.returncode == 0
    (noted,) = site.notes.read_text().splitlines()
    assert noted.startswith("podman run --rm --init ")
    assert f"--volume {site.root}/results:/af-alg-tests/results" in noted
    assert ("--device /dev/kvm" in noted) == os.access("/dev/kvm", os.W_OK)
    assert events.load(site.root / "results/latest").status == 0
    assert site.does("suite/ci/in_container.sh podman", site.root).returncode == 1


def test_the_container_is_made_of_what_is_there() -> None:
    lines = (CI / "Containerfile").read_text().splitlines()
    assert lines[-1] == 'ENTRYPOINT ["make", "test"]'
    assert "RUN make setup" in lines
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", "results"} <= set(ignored), "an environment of another place is of no use there"


def test_each_file_is_in_the_readme() -> None:
    named = set(re.findall(r"^\|[^|]*\| `([\w.]+)` \|", README, re.MULTILINE))
    assert named | {"README.md", "run", "in_container.sh"} == {path.name for path in CI.iterdir()}


def blocks() -> dict[str, list[str]]:
    """Return the indented lines of each section of ci/README.md."""
    sections = dict(
        zip(re.findall(r"^## (.*)$", README, re.MULTILINE), re.split(r"^## .*$", README, flags=re.M)[1:], strict=True)
    )
    return {
        name: [line[4:] for line in text.splitlines() if line.startswith("    ")] for name, text in sections.items()
    }


def test_what_the_readme_has_users_write_is_right(site: Site) -> None:
    said = blocks()
    assert {name: len(lines) for name, lines in said.items()} == {
        "GitHub": 7, "GitLab": 5, "LAVA": 3, "tmt": 1, "NIPA": 2, "Container": 3, "Real programs": 1,
        "More than one machine": 3,
    }  # fmt: skip
    calls = YAML(typ="safe").load("\n".join(said["GitHub"]))["jobs"]["af_alg"]
    assert set(calls["with"]) <= set(yaml(CI / "github.yml")["on"]["workflow_call"]["inputs"])
    gitlab = YAML(typ="safe").load("\n".join(said["GitLab"]))
    assert (ROOT / gitlab["include"][0]["local"]).exists()
    assert set(gitlab) - {"include"} <= set(yaml(CI / "gitlab.yml"))
    (lava,) = YAML(typ="safe").load("\n".join(said["LAVA"]))
    (definition,) = lava["test"]["definitions"]
    assert (ROOT / definition["path"]).exists()
    assert set(definition["parameters"]) <= set(yaml(CI / "lava.yaml")["params"])
    assert "/ci/tmt" in said["tmt"][0]
    assert (ROOT / "ci/nipa.sh").exists()
    for line in said["Container"]:
        done = site.does(line.replace("KERNEL=6.12", "KERNEL=running TEST=tests/splice"), site.suite, KERNEL="running")
        assert done.returncode == 0


def test_machines_by_ssh_as_the_readme_has_it(site: Site) -> None:
    """ssh and scp reach directories here."""
    for number in ("1", "2"):
        (site.root / f"machine-{number}").mkdir()
        shutil.copytree(site.suite, site.root / f"machine-{number}/af-alg-tests", symlinks=True)
    site.program("ssh", f'#!/bin/sh\ncd "{site.root}/$1" && exec sh -c "$2"\n')
    site.program("scp", f'#!/bin/sh\nexec cp -r "{site.root}/${{2%%:*}}/${{2#*:}}" "$3"\n')
    script = "\n".join(blocks()["More than one machine"]).replace("KERNEL=6.12", "KERNEL=running")
    assert site.does(script, site.suite).returncode == 0
    (kernel,) = events.load(site.suite / "all").kernels
    assert len(kernel.tests) == 2
