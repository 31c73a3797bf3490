"""What the pages on deployment show is true of the files, and works."""

import asyncio
import re
import subprocess

import jsonschema
import pytest
import yaml

from quarterdeck.bootstrap import API_CONNECTIONS, WORK_CONNECTIONS
from quarterdeck.cli.serve import serve
from quarterdeck.config import load, settings_table
from quarterdeck.store import embedded
from quarterdeck.store.migrator import Migrator
from tests.architecture.test_timeouts_nest import ENGINE_STOP
from tests.containers.files import compose, dockerfile, final, image_environment, named_variables, read_env_file
from tests.containers.processes import postgres_programs
from tests.containers.test_compose_file import OURS, SCHEMA, SERVICES
from tests.docs.documents import DOCS, blocks
from tests.support.factories import new_job, open_stores

COMPOSE = DOCS / "how-to" / "run-with-compose.md"
DEPLOY = DOCS / "how-to" / "deploy.md"
TEXT = {page: page.read_text() for page in (COMPOSE, DEPLOY)}


def shown(page, language="", having=""):
    return [block.text for block in blocks(page) if block.language == language and having in block.text]


@pytest.mark.parametrize("page", [COMPOSE, DEPLOY])
def test_every_block_is_of_a_kind_that_is_looked_at_here_or_run_by_the_test_of_the_stack(page):
    for block in blocks(page):
        plain = re.match(r"install -m 600 |export QUARTERDECK_API_KEY=|QUARTERDECK_APP=|docker |git pull\n", block.text)
        assert block.language in ("yaml", "dockerfile", "ini", "nginx") or (plain and not block.language), block.place


def test_the_commands_make_an_env_file_that_the_stack_starts_with(tmp_path):
    (commands,) = shown(COMPOSE, having="openssl")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o077 == 0
    environment = compose(read_env_file(made.read_text()))["services"]["web"]["environment"]
    assert load(environ={k: v for k, v in environment.items() if k.startswith("Q")}).settings.short_keys() == []
    (ask,) = (line for line in shown(COMPOSE, having="sed -n")[0].splitlines() if "export" in line)
    script = f'{ask}\necho -n "$QUARTERDECK_API_KEY"'
    key = subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert environment["QUARTERDECK_API_KEYS"] == f"me:{key}"
    assert len(key) == 48


@pytest.mark.parametrize("text", shown(COMPOSE, "yaml"))
def test_an_override_file_is_valid_and_is_about_services_that_are_there(text):
    override = yaml.safe_load(text)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(override)) == []
    assert set(override["services"]) <= set(SERVICES)
    for name, changes in override["services"].items():
        environment = SERVICES[name]["environment"] | changes.get("environment", {})
        assert load(environ={key: str(value) for key, value in environment.items() if key.startswith("Q")})
    built = [changes["image"] for changes in override["services"].values() if "build" in changes]
    images = {name: changes["image"] for name, changes in override["services"].items() if "image" in changes}
    assert not images or (set(images) == set(OURS) and built == list(set(images.values()))), "built once, used by both"


@pytest.mark.parametrize("text", shown(COMPOSE, "dockerfile"))
def test_an_image_of_one_s_own_stands_on_ours_and_ends_as_its_user(text):
    made = dockerfile(text)
    assert made[0].words == [SERVICES["web"]["image"]]
    (user,) = final("USER")
    users = [each.words for each in made if each.name == "USER"]
    assert not users or users[-1] == user.words
    (target,) = (each.words[1] for each in made if each.words[0] == "myapp")
    assert target.startswith(final("WORKDIR")[0].words[0])


def test_the_image_alone_is_given_what_the_stack_gives_it():
    (command,) = shown(COMPOSE, having="docker run")
    assert f":{image_environment()['QUARTERDECK_DATA_DIR']} {SERVICES['web']['image']}\n" in command
    assert {"--init", "--read-only", "--tmpfs /tmp"} <= set(re.findall(r"--(?:tmpfs /tmp|[a-z-]+)", command))
    published = SERVICES["web"]["ports"][0]
    assert f"--publish {published} " in command
    embedded_stop = sum(patience for _, patience in embedded.STOP_SIGNALS)
    assert int(re.search(r"--stop-timeout (\d+)", command)[1]) > ENGINE_STOP + embedded_stop


def test_the_variables_that_the_page_names_are_read():
    named = set(re.findall(r"^([A-Z_]+)=", "\n".join(shown(COMPOSE)), re.MULTILINE))
    named |= set(re.findall(r"`(PUBLISH)=", TEXT[COMPOSE]))
    assert named <= set(named_variables())
    assert f"{SERVICES['worker']['tmpfs'][0].partition('size=')[2].rstrip('m')} MB for each container" in TEXT[COMPOSE]


def test_the_unit_waits_longer_than_a_stop_takes_and_starts_what_there_is():
    (unit,) = shown(DEPLOY, "ini")
    facts = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert int(facts["TimeoutStopSec"]) > ENGINE_STOP
    flags = set(re.findall(r"--[a-z-]+", facts["ExecStart"]))
    assert flags <= {option for each in serve.params for option in each.opts}
    files = re.findall(r"Environment=(\w+)_FILE=%d/([\w-]+)", unit)
    assert {credential for _, credential in files} == set(re.findall(r"LoadCredential=([\w-]+):", unit))
    assert {name for name, _ in files} == {setting.env for setting in settings_table() if setting.secret} & set(
        SERVICES["web"]["environment"]
    )


def test_the_proxy_waits_longer_than_a_long_poll_and_takes_bodies_that_the_service_takes():
    (proxy,) = shown(DEPLOY, "nginx")
    assert int(re.search(r"proxy_read_timeout (\d+)s", proxy)[1]) > 60
    assert "proxy_set_header Host $http_host" in proxy
    assert int(re.search(r"client_max_body_size (\d+)m", proxy)[1]) > 1


@pytest.mark.parametrize("page", [COMPOSE, DEPLOY])
def test_commands_name_services_and_the_role_that_are_there(page):
    text = "\n".join(shown(page))
    assert set(re.findall(r"^docker build --tag (\w+) \.$", text, re.MULTILINE)) <= {SERVICES["web"]["image"]}
    lines = re.findall(r"^docker compose (.+)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        command, *words = line.split()
        assert command not in ("exec", "restart", "stop") or set(words) & set(SERVICES), line
        role, scaled = re.search(r"--username (\w+)", line), re.search(r"--scale (\w+)=", line)
        assert role is None or role[1] == SERVICES["postgres"]["environment"]["POSTGRES_USER"]
        assert scaled is None or scaled[1] in OURS


def test_the_connections_are_those_that_a_process_opens():
    each = API_CONNECTIONS + WORK_CONNECTIONS + 2
    assert f"| {each} for each process: `max_connections` of at least {each} " in TEXT[DEPLOY]


async def test_a_backup_is_restored_as_the_page_says(database, tmp_path):
    inside = "docker compose exec -T postgres "
    lines = [line for text in shown(DEPLOY) for line in text.splitlines() if line.startswith(inside)]
    commands = [line.removeprefix(inside) for line in lines]
    assert [command.split()[0] for command in commands] == ["pg_dump", "psql", "pg_restore"]
    await Migrator(database.dsn).up()
    async with open_stores(database.dsn) as stores:
        await stores.insert(*(new_job() for _ in range(3)))
        before = await content(stores)
    for command in commands:
        environment = {"PATH": f"{postgres_programs()}:/usr/bin:/bin", **database.environment}
        shell = await asyncio.create_subprocess_exec("bash", "-c", command, cwd=tmp_path, env=environment)
        assert await shell.wait() == 0
        async with open_stores(database.dsn) as stores:
            there = await stores.fetch("select from pg_namespace where nspname = 'quarterdeck'")
            assert len(there) == (0 if command.startswith("psql") else 1)
    async with open_stores(database.dsn) as stores:
        assert await content(stores) == before
    await Migrator(database.dsn).prepare(apply=False)


async def content(stores):
    """The jobs, and the names and kinds of everything in the schema."""
    jobs = await stores.fetch("select * from quarterdeck.job order by id")
    assert len(jobs) == 3
    made = "select relname, relkind from pg_class where relnamespace = 'quarterdeck'::regnamespace order by 1, 2"
    return [dict(row) for row in (*jobs, *await stores.fetch(made))]
