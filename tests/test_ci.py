"""The recipes for CI that people copy: their syntax, their commands, what they need, where secrets come from."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from dockerfile_parse import DockerfileParser
from keytrail.cli import main
from keytrail.data import packaged

from tests.kibana_server import running
from tests.test_docs import check_line, shell_lines
from tests.test_package import SHIPPED, files_in

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
GITHUB = ROOT / "docs" / "ci" / "github.yml"
GITLAB = ROOT / "docs" / "ci" / "gitlab.yml"
CONTAINER = ROOT / "docs" / "ci" / "Containerfile"
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
SECRET = re.compile(r"API_?KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)


def github_jobs() -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(GITHUB.read_text("utf-8"))["jobs"]
    return jobs


def scripts() -> dict[str, str]:
    """The shell of each job, by file and job."""
    found = {
        f"github {name}": "\n".join(step["run"] for step in job["steps"] if "run" in step)
        for name, job in github_jobs().items()
    }
    for name, job in yaml.safe_load(GITLAB.read_text("utf-8")).items():
        if isinstance(job, dict) and "script" in job:
            found[f"gitlab {name.removeprefix('keytrail-')}"] = "\n".join(job["script"])
    return found


def commands(shell: str) -> Iterator[str]:
    """The commands in lines of shell, without their redirections; what a container runs is one of them."""
    for line in shell.splitlines():
        words: list[str] = []
        for word in [*shlex.shlex(line, posix=True, punctuation_chars=True), ";"]:
            if re.fullmatch(r"[;&|()]+|[<>]+", word):
                if words[:1] == ["keytrail"]:
                    yield shlex.join(words)
                elif words[:2] == ["docker", "run"]:
                    yield shlex.join(words[words.index("keytrail") :])
                words = []
            else:
                words.append(word)


def page_config() -> dict[str, Any]:
    """The configuration for pre-commit that the page shows."""
    block = re.search(r"^```yaml\n(repos:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    found: dict[str, Any] = yaml.safe_load(block[1])
    return found


def lines() -> Iterator[tuple[str, str]]:
    """Each command that calls keytrail, and where it stands."""
    for place, script in {**scripts(), "page": "\n".join(shell_lines(PAGE))}.items():
        for command in commands(script):
            yield place, command
    entries = {hook["id"]: hook["entry"] for hook in HOOKS}
    for place, hooks in {"hooks": HOOKS, "page": page_config()["repos"][0]["hooks"]}.items():
        for hook in hooks:
            yield f"{place} {hook['id']}", f"{entries[hook['id']]} {shlex.join(hook['args'])}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--builtin-schema", "vendor.github-workflows", str(GITHUB)],
        ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", str(GITLAB)],
    ],
    ids=["github", "gitlab"],
)
def test_the_files_are_what_their_services_schemas_say(arguments: list[str]) -> None:
    checked = CliRunner().invoke(check_jsonschema, arguments)
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(("place", "line"), list(lines()))
def test_each_command_is_one_that_keytrail_takes(place: str, line: str) -> None:
    check_line(line)


def test_each_job_runs_keytrail() -> None:
    assert {place for place, _ in lines()} >= set(scripts())


def test_the_jobs_of_both_services_run_the_same_commands() -> None:
    def said(place: str) -> list[str]:
        return [re.sub(r"\$\{KIBANA_SPACE:-default\}", "$KIBANA_SPACE", line) for line in commands(scripts()[place])]

    for job in ("test", "plan", "apply"):
        assert said(f"github {job}") == said(f"gitlab {job}")


@pytest.mark.parametrize(("place", "script"), list(scripts().items()))
def test_the_shell_is_sound(place: str, script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_repository_must_have_is_explained() -> None:
    layout = PAGE.partition("| file | copy to |")[0]
    explained = {name.strip("/") for name in re.findall(r"^\| `([\w./-]+)` \|", layout, re.MULTILINE)}
    text = "\n".join(scripts().values())
    named = set(re.findall(r"(?:--rules|--cases|--site|--requirement|convert) ([\w./-]+)", text))
    assert named == explained


def test_secrets_come_from_the_environment_alone() -> None:
    texts = {path.name: path.read_text("utf-8") for path in (GITHUB, GITLAB, CONTAINER)}
    given = re.findall(r"^ *(?:- )?(\w+): (.*)$", texts["github.yml"], re.MULTILINE)
    secret = {name: value for name, value in given if SECRET.search(name) and name.isupper()}
    assert secret == {"KIBANA_API_KEY": "${{ secrets.KIBANA_API_KEY }}"}
    assert not re.findall(r"^ *\w*(?:API_KEY|PASSWORD|TOKEN)\w*:", texts["gitlab.yml"], re.MULTILINE)
    for place, script in scripts().items():
        assert not SECRET.search(script), place
        assert "${{" not in script, f"{place}: what GitHub fills in is run as shell"
    for name in re.findall(r"\b(?:KIBANA|ELASTICSEARCH)_[A-Z_]+\b", "".join(texts.values())):
        assert f"`{name}`" in PAGE, name


def test_the_key_that_writes_is_for_the_main_branch_alone() -> None:
    jobs = github_jobs()
    keys = {name for name, job in jobs.items() if "secrets." in json.dumps(job)}
    assert keys == {"plan", "apply"}
    assert jobs["apply"]["environment"] != jobs["plan"]["environment"]
    assert "github.event_name == 'push'" in jobs["apply"]["if"]
    workflow = yaml.safe_load(GITHUB.read_text("utf-8"))
    assert set(workflow[True]) == {"pull_request", "push"}  # YAML takes the key "on" for true
    assert workflow["permissions"] == {"contents": "read"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A repository as the page describes it."""
    own = tmp_path / "site"
    arguments = ["--rules", str(own / "rules"), "--cases", str(own / "cases")]
    assert CliRunner().invoke(main, ["new", "rule", "key/key_tagged", *arguments]).exit_code == 0
    shutil.copy(packaged("fixtures") / "site.yml", own)
    return tmp_path


def run_job(site: Path, job: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run what a job runs, but for the installation, in a repository."""
    script = "\n".join(line for line in scripts()[job].splitlines() if not line.startswith("pip "))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=site,
        env={**os.environ, "PATH": path, **given},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_the_jobs_plan_and_apply_bring_a_space_to_what_the_repository_says(service: str, site: Path) -> None:
    """The pack and the site's rule together, then a change of the site alone, then a rule less."""
    rule = site / "site" / "rules" / "key" / "key_tagged.yml"
    with running() as kibana:
        summary, output = site / "summary.md", site / "output"
        env = {"KIBANA_URL": kibana.url, "KIBANA_API_KEY": "x", "KIBANA_SPACE": "default"}
        env |= {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}

        def changed() -> str:
            planned = run_job(site, f"{service} plan", **env)
            assert planned.returncode == 0, planned.stderr
            applied = run_job(site, f"{service} apply", **env)
            assert applied.returncode == 0, applied.stderr
            return (site / "plan.txt").read_text("utf-8")

        whole = changed()
        assert "+ create   rule CloudTrail Key Disabled" in whole
        assert "+ create   rule Key tagged" in whole
        there = len(kibana.rules)
        if service == "gitlab":  # it runs the same commands, which another test sees to
            return
        rule.write_text(rule.read_text("utf-8").replace("level: medium", "level: high"), "utf-8")
        text = changed()
        assert "~ update   rule Key tagged" in text
        assert "it is more severe: high, and was medium" in text
        assert f"= same     {there - 1} as they should be" in text
        rule.unlink()
        assert "- delete   rule Key tagged  (no longer in the pack)" in changed()
        assert len(kibana.rules) == there - 1
        assert "keytrail plan: exit code 3" in summary.read_text("utf-8")
        assert output.read_text("utf-8").splitlines() == ["code=3"] * 3


def test_the_job_test_passes_and_leaves_its_artifacts(site: Path) -> None:
    done = run_job(site, "github test")
    assert done.returncode == 0, done.stderr
    assert "<testsuites" in (site / "report.xml").read_text("utf-8")
    assert [json.loads(line)["name"] for line in (site / "rules.ndjson").read_text("utf-8").splitlines()]


def test_the_job_test_fails_where_a_case_does_not_hold(site: Path) -> None:
    cases = site / "site" / "cases" / "key" / "key_tagged.yml"
    cases.write_text(cases.read_text("utf-8").replace("match: true", "match: false"), "utf-8")
    assert run_job(site, "github test").returncode == 1
    assert "<failure" in (site / "report.xml").read_text("utf-8")
    assert not (site / "rules.ndjson").exists()


def test_the_hooks_are_those_that_the_page_shows() -> None:
    used = page_config()["repos"][0]["hooks"]
    assert [hook["id"] for hook in used] == [hook["id"] for hook in HOOKS]
    for hook in HOOKS:
        assert {"id", "name", "entry", "language", "pass_filenames"} <= set(hook)
        assert hook["language"] == "python"


def steps() -> list[tuple[str, str]]:
    with CONTAINER.open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [(step["instruction"], step["value"]) for step in parsed]


def test_the_container_runs_as_nobody_from_a_pinned_base() -> None:
    found = steps()
    bases = [value.partition(" AS ")[0] for name, value in found if name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"docker\.io/library/python:3\.\d+-slim", base) for base in bases)
    last = found[max(number for number, (name, _) in enumerate(found) if name == "FROM") :]
    users = [value for name, value in last if name == "USER"]
    assert users
    assert all(int(part) > 0 for part in users[-1].split(":"))
    assert [json.loads(value) for name, value in last if name == "ENTRYPOINT"] == [["keytrail"]]
    assert not [value for name, value in found if name in ("ARG", "ENV") and SECRET.search(value)]
    assert "ADD" not in dict(found)


def test_what_the_container_file_copies_is_all_that_keytrail_needs(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name, value in steps():
        if name == "COPY" and not value.startswith("--from"):
            *paths, target = value.split()
            for path in paths:
                if (ROOT / path).is_dir():
                    shutil.copytree(ROOT / path, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / path, source / target)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {f"{place}/{name}" for place, folder in SHIPPED.items() for name in files_in(ROOT / folder)}
    assert found == {name for name in wanted if "__pycache__" not in name}
