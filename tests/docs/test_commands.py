"""Every command that the documents tell people to type is tried out, or at least held to what it
names. A command of a kind that nothing here knows fails the test."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command, get_commands, load_command_class

from accounts.models import User
from tests.factories import GatewayModelFactory
from tests.ops.tools import OPS, ROOT, run, tool

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
MANIFESTS = [
    item
    for path in (OPS / "kubernetes").glob("*.yaml")
    for item in yaml.safe_load_all(path.read_text())
]
# Those that only look, and need no neighbour: they are carried out.
CARRIED_OUT = {"explain_access", "show_limits", "show_usage", "tail_requests", "reset_limits"}


def commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.S | re.M):
            lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
            found += [(path.name, line) for line in lines if line and not line.startswith("#")]
    return found


COMMANDS = commands()


@pytest.mark.django_db
@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_command_does_what_it_is_there_for(document, line, request, tmp_path):
    program, *words = shlex.split(line)

    assert program in CHECKS, f"{document} names a command that nothing here knows"
    CHECKS[program](words, request, tmp_path)


def check_manage(words: list[str], request: pytest.FixtureRequest) -> None:
    name, *arguments = words
    assert name in get_commands(), name
    command = load_command_class(get_commands()[name], name)
    command.create_parser("manage.py", name).parse_args(arguments)
    if name in CARRIED_OUT:
        free_plan = request.getfixturevalue("free_plan")
        free_plan.gateway_models.add(GatewayModelFactory.create(name="basic-chat"))
        request.getfixturevalue("user")  # alice@example.com
        assert User.objects.filter(email="alice@example.com").exists()
        try:
            call_command(name, *arguments)
        except SystemExit as ended:
            raise AssertionError(name) from ended
        except Exception as refusal:
            # A whole chain of reasons may well end in "no".
            if name != "explain_access" or "no access" not in str(refusal):
                raise


def check_make(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M)
    named = [word for word in words if "=" not in word]
    assert set(named) <= set(targets)
    variables = {word.partition("=")[0] for word in words if "=" in word}
    known = (ROOT / "Makefile").read_text()
    assert all(variable in known for variable in variables)


def check_python(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    if words[0] == "manage.py":
        check_manage(words[1:], request)
    else:
        assert words[0] == "-c"
        assert run(sys.executable, *words).strip()


def check_docker(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    assert words.pop(0) == "compose"
    services = COMPOSE["services"]
    if words[0] == "--profile":
        assert any(words[1] in service.get("profiles", []) for service in services.values())
        words = words[2:]
    verb, *rest = words
    scaled = [rest[n + 1].partition("=")[0] for n, word in enumerate(rest) if word == "--scale"]
    assert set(scaled) <= set(services)
    plain = [word for word in rest if not word.startswith("-") and "=" not in word]
    if verb in {"up", "logs", "stop", "build"}:
        assert set(plain) <= set(services)
    elif verb == "exec":
        assert plain[0] in services
        assert rest[1] == "python"
        check_python(rest[2:], request, folder)
    else:
        assert verb == "run"
        assert "--rm" in rest
        assert plain[0] in services
        if plain[0] == "backup":
            script = (OPS / "backup" / "backup.sh").read_text()
            assert f"    {plain[1]})" in script


def check_kubectl(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    text = " ".join(words)
    names = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in MANIFESTS
             if item["kind"] != "Kustomization"}  # fmt: skip
    used = (OPS / "kubernetes").rglob("*.yaml")
    everything = "".join(path.read_text() for path in used)
    assert re.findall(r"(?:job|statefulset)/[\w-]+", text) == [
        name for name in re.findall(r"(?:job|statefulset)/[\w-]+", text) if name in names
    ]
    for kind, name in re.findall(r"create (?:secret generic|configmap)( )([\w-]+)", text):
        assert name in everything, kind
    if "apply -k" in text:
        run(tool("kubectl"), "kustomize", ROOT / text.rpartition(" ")[2])
    if " -- python manage.py " in text:
        check_manage(shlex.split(text.partition(" -- python manage.py ")[2]), request)


def check_copied(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    assert (ROOT / words[0]).exists()


def check_openssl(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    (folder / "certs").mkdir()
    run(tool("openssl"), *words, cwd=folder)
    assert (folder / "certs" / "fullchain.pem").exists()


def check_node(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    # It is run in tests/chatproxy/test_typed_client.py.
    assert (ROOT / words[0]).exists()


def checked_elsewhere(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
    assert all((ROOT / word).exists() for word in words if "/" in word and "certs" not in word)


def check_tool(name: str) -> Callable[[list[str], pytest.FixtureRequest, Path], None]:
    def check(words: list[str], request: pytest.FixtureRequest, folder: Path) -> None:
        subprocess.run([tool(name), *words], cwd=ROOT, check=True, capture_output=True)

    return check


CHECKS = {
    "amtool": check_tool("amtool"),
    "chmod": checked_elsewhere,
    "cp": check_copied,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "make": check_make,
    "mkdir": checked_elsewhere,
    "node": check_node,
    "openssl": check_openssl,
    # Its own test is tests/ops/test_pin_images.py.
    "ops/pin-images": checked_elsewhere,
    "promtool": check_tool("promtool"),
    "python": check_python,
    "python3": check_python,
}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        address, _, anchor = target.partition("#")
        if address.startswith("http"):
            continue
        found = (path.parent / address) if address else path
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
            anchors = [
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            ]
            assert anchor in anchors, target


def test_commands_for_operators_are_all_described():
    text = "".join(path.read_text() for path in DOCUMENTS)
    ours = {
        name
        for name, app in get_commands().items()
        if app in {"tesslate", "accounts", "plans", "llmkeys", "chatproxy"}
    }

    assert {name for name in ours if name not in text} == set()
