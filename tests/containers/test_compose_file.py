"""docker-compose.yml is valid, everything that it names is real, and no container may do more than it must."""

import json
import re
import subprocess

import jsonschema
import pytest

from quarterdeck.bootstrap import API_CONNECTIONS, WORK_CONNECTIONS, load_deck
from quarterdeck.config import load, settings_table
from quarterdeck.store import embedded
from tests.containers.files import (
    DOCKERFILE,
    REPOSITORY,
    MissingVariableError,
    compose,
    dockerfile,
    final,
    image_environment,
    in_context,
    named_variables,
    read_env_file,
)
from tests.containers.processes import PATH, SCRATCH, boxed, can_box, make_app_directory, postgres_programs

SCHEMA = json.loads((REPOSITORY / "tests" / "data" / "compose" / "compose_spec.json").read_text())
EXAMPLE = (REPOSITORY / ".env.example").read_text()
SECRETS = {"QUARTERDECK_API_KEYS": "me:a-secret-of-some-length", "POSTGRES_PASSWORD": "another"}
STACK = compose(SECRETS)
SERVICES = STACK["services"]
OURS = ("web", "worker")
CONNECTIONS = API_CONNECTIONS + WORK_CONNECTIONS + 2
"""Of one process: the heartbeat's and the bus's too."""
UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}


def size(text):
    return int(text[:-1]) * UNITS[text[-1]]


def test_the_file_is_valid_by_the_specification():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(STACK)) == []


@pytest.mark.parametrize(
    ("service", "option", "value"),
    [
        ("web", "stop_grace_periode", "75s"),
        ("web", "read_only", "yes"),
        ("worker", "depends_on", {"postgres": {"condition": "healthy"}}),
        ("postgres", "healthcheck", {"test": ["CMD", "true"], "every": "5s"}),
        ("memcached", "command", {"memcached": None}),
    ],
)
def test_a_file_with_a_mistake_is_not(service, option, value):
    wrong = {**STACK, "services": {**SERVICES, service: {**SERVICES[service], option: value}}}
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(wrong))


# Secrets and variables


@pytest.mark.parametrize("missing", sorted(SECRETS))
@pytest.mark.parametrize("value", [None, ""])
def test_the_stack_does_not_start_without_a_secret(missing, value):
    given = {name: secret for name, secret in SECRETS.items() if name != missing}
    with pytest.raises(MissingVariableError, match=missing):
        compose(given if value is None else {**given, missing: value})


def test_no_secret_has_a_default():
    named = named_variables()
    assert {name for name, ways in named.items() if ":?" in ways} == set(SECRETS)
    assert all(len(ways) == 1 for ways in named.values())


def test_the_example_names_every_variable_and_no_other_with_the_default_that_it_has():
    named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(named) == set(named_variables())
    assert read_env_file(EXAMPLE) == dict.fromkeys(SECRETS, ""), "what must be filled in is empty"
    assert compose({**named, **SECRETS}) == STACK, "what is commented out is the default"


def test_a_secret_goes_only_where_it_is_needed():
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in json.dumps(service)}
        for secret in SECRETS.values()
    }
    assert holders[SECRETS["QUARTERDECK_API_KEYS"]] == {"web", "worker"}
    assert holders[SECRETS["POSTGRES_PASSWORD"]] == {"postgres", "web", "worker"}
    # A command line can be read by everybody on the machine.
    for service in SERVICES.values():
        said = json.dumps([service.get("command"), service["healthcheck"], service.get("labels")])
        assert not any(secret in said for secret in SECRETS.values())


@pytest.mark.parametrize("password", ["p@ss:w/rd", "100%#?&=", "'", '" $HOME', "ü\\"])
def test_no_character_of_a_password_can_break_the_database_url(password):
    stack = compose({**SECRETS, "POSTGRES_PASSWORD": password})["services"]
    for name in OURS:
        environment = stack[name]["environment"]
        assert environment["PGPASSWORD"] == stack["postgres"]["environment"]["POSTGRES_PASSWORD"] == password
        assert environment["QUARTERDECK_DATABASE_URL"] == SERVICES[name]["environment"]["QUARTERDECK_DATABASE_URL"]


# What the names in it stand for


@pytest.mark.parametrize("name", OURS)
def test_every_setting_exists_and_is_accepted(name):
    environment = {**image_environment(), **SERVICES[name]["environment"]}
    ours = {key for key in environment if key.startswith("QUARTERDECK_")}
    assert ours <= {setting.env for setting in settings_table()}
    settings = load(environ=environment).settings
    assert settings.role == name
    assert settings.auth_required()
    assert settings.short_keys() == []
    assert settings.memcached == "memcached:11211"


def test_the_handlers_that_it_starts_with_are_there():
    app = SERVICES["web"]["environment"]["QUARTERDECK_APP"]
    assert {handler.kind for handler in load_deck(app).handlers} == {"checksum", "word_count"}
    assert app.split(".")[0] in {each.words[-1] for each in final("COPY")}


def test_hosts_in_addresses_are_services_on_a_shared_network():
    for name in OURS:
        environment = SERVICES[name]["environment"]
        hosts = {environment["QUARTERDECK_DATABASE_URL"].partition("@")[2].partition(":")[0]}
        hosts.add(environment["QUARTERDECK_MEMCACHED"].partition(":")[0])
        for host in hosts:
            assert set(SERVICES[host]["networks"]) & set(SERVICES[name]["networks"])
            assert host in SERVICES[name]["depends_on"]


def test_role_and_database_are_those_that_the_image_makes():
    made = SERVICES["postgres"]["environment"]
    url = f"postgresql://{made['POSTGRES_USER']}@postgres:5432/{made['POSTGRES_DB']}"
    assert {SERVICES[name]["environment"]["QUARTERDECK_DATABASE_URL"] for name in OURS} == {url}
    asked = SERVICES["postgres"]["healthcheck"]["test"]
    assert asked[asked.index("--username") + 1] == made["POSTGRES_USER"]
    assert asked[asked.index("--dbname") + 1] == made["POSTGRES_DB"]
    assert "--port" not in asked, "it is the usual one"


def test_the_ports_agree():
    port = image_environment()["QUARTERDECK_BIND"].rpartition(":")[2]
    assert final("EXPOSE")[0].words == [port]
    assert SERVICES["web"]["ports"] == [f"127.0.0.1:8000:{port}"]
    checks = [SERVICES[name]["healthcheck"]["test"] for name in OURS] + [final("HEALTHCHECK CMD")[0].words]
    assert all(re.search(r"127\.0\.0\.1', (\d+)", " ".join(check))[1] == port for check in checks)


def test_the_clusters_are_made_as_the_embedded_one_is():
    given = SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    # The rest is who may connect, which the image decides by itself.
    assert given == [
        option for option in embedded._INITDB if option.startswith(("--encoding", "--locale", "--builtin"))
    ]


@pytest.mark.skipif(not can_box(), reason="this machine lets no process be another user without having one")
def test_a_cluster_is_made_by_what_is_given_for_it():
    made = SERVICES["postgres"]["environment"]
    command = [f"{postgres_programs()}/initdb", "--pgdata", f"{SCRATCH}/new", "--username", made["POSTGRES_USER"]]
    command += [*made["POSTGRES_INITDB_ARGS"].split(), "--no-sync"]
    ran = subprocess.run(boxed(command), env={"PATH": PATH, "LANG": "C.UTF-8"}, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_database_can_write_where_its_image_means_it_to():
    mounted = dict(each.partition(":")[::2] for each in SERVICES["postgres"]["tmpfs"])
    assert set(mounted) == {"/tmp", "/run/postgresql"}
    # A file system that is mounted there is root's; of /tmp everybody may take it for granted, of others not.
    assert mounted["/run/postgresql"] == "mode=1777"


def test_the_major_version_is_the_embedded_one_and_its_volume_is_where_that_version_looks():
    assert SERVICES["postgres"]["image"] == f"postgres:{embedded.MAJOR_VERSION}"
    (volume,) = SERVICES["postgres"]["volumes"]
    assert volume.split(":") == ["postgres", "/var/lib/postgresql"], "since 18 not the directory data below it"
    assert set(STACK["volumes"]) == {"postgres"}


def test_the_database_has_connections_for_sixteen_processes():
    command = " ".join(SERVICES["postgres"]["command"])
    assert int(re.search(r"max_connections=(\d+)", command)[1]) - 3 >= 16 * CONNECTIONS


# What containers may do


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_is_root_has_a_capability_or_can_write_to_its_image(name):
    service = SERVICES[name]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@pytest.mark.parametrize("name", OURS)
def test_the_user_is_the_image_s(name):
    assert SERVICES[name]["user"] == final("USER")[0].words[0]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_has_a_health_check_that_ends_restarts_and_turns_its_log_over(name):
    service = SERVICES[name]
    check = service["healthcheck"]
    patience = re.search(r"timeout[= ](\d+)|(pg_isready)", " ".join(check["test"]))
    assert int(patience[1] or 3) < int(check["timeout"].removesuffix("s"))  # pg_isready waits 3 s
    assert service["restart"] == "unless-stopped"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_only_the_web_process_can_be_reached_and_only_from_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])
    assert STACK["networks"]["backend"] == {"internal": True}
    for name in ("postgres", "memcached"):
        assert SERVICES[name]["networks"] == ["backend"]


def test_there_may_be_many_workers():
    worker = SERVICES["worker"]
    assert {"ports", "container_name", "hostname", "volumes"} & set(worker) == set()
    assert worker["image"] == SERVICES["web"]["image"]


def test_a_process_starts_after_its_database_and_does_not_wait_for_the_cache():
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "memcached": {"condition": "service_started"},
        }


def test_nobody_else_s_image_is_taken_for_ours():
    assert {name: SERVICES[name]["pull_policy"] for name in OURS} == {"web": "build", "worker": "never"}


def test_an_image_is_built_once():
    """Compose builds in parallel: of two services that build one name, the second fails where it is not there yet."""
    assert [name for name, service in SERVICES.items() if "build" in service] == ["web"]
    assert {SERVICES[name]["image"] for name in OURS} == {"quarterdeck"}


def test_memcached_stays_below_its_limit():
    service = SERVICES["memcached"]
    megabytes = int(service["command"][service["command"].index("-m") + 1])
    assert megabytes * 2**20 * 1.5 < size(service["mem_limit"])


# The image


def test_every_path_that_is_copied_is_there_and_is_sent_to_the_engine():
    for each in dockerfile():
        if each.name == "COPY" and "from" not in each.flags:
            for source in each.words[:-1]:
                path = REPOSITORY / source
                assert path.exists(), source
                below = path.rglob("*") if path.is_dir() else [path]
                files = [file for file in below if file.is_file() and "__pycache__" not in file.parts]
                assert all(in_context(file.relative_to(REPOSITORY).as_posix()) for file in files)


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".git/config", ".venv/bin/python", ".quarterdeck/cluster/PG_VERSION", "quarterdeck.toml"),
        *("examples/.env", "src/quarterdeck/__pycache__/x.pyc", "examples/chat/.quarterdeck/run", "tests/conftest.py"),
        "examples/chat/.env.local",
    ],
)
def test_secrets_data_and_history_are_not_sent_to_the_engine(name):
    assert not in_context(name)


def test_a_build_fetches_no_image_but_the_one_that_it_stands_on():
    """A line `# syntax=` would have each build ask Docker Hub for a newer parser, of which nothing is used."""
    images = {each.words[0] for each in dockerfile() if each.name == "FROM"}
    assert images == {"python:3.13-slim"}
    stages = {each.words[2] for each in dockerfile() if each.words[1:2] == ["AS"]}
    assert {each.flags["from"] for each in dockerfile() if "from" in each.flags} == stages
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE.read_text(), re.MULTILINE)


def test_the_image_s_user_can_read_what_a_umask_kept_to_its_owner(tmp_path):
    make_app_directory(tmp_path)
    files = list((tmp_path / "app").rglob("*"))
    assert files
    for path in files:
        path.chmod(path.stat().st_mode & 0o700)
    last = [each for each in dockerfile() if each.stage == final("CMD")[0].stage]
    copies = max(index for index, each in enumerate(last) if each.name == "COPY")
    for each in last[copies:]:
        if each.name == "RUN":
            subprocess.run(["sh", "-euc", each.words[0]], cwd=tmp_path / "app", check=True)
    for path in files:
        needed = 0o055 if path.is_dir() else 0o044
        assert path.stat().st_mode & needed == needed, path


def test_the_image_is_built_in_a_stage_of_which_only_the_environment_remains():
    stages = {each.stage for each in dockerfile()}
    assert stages == {0, 1}
    assert [each.words for each in final("COPY") if "from" in each.flags] == [["/opt/quarterdeck", "/opt/quarterdeck"]]
    assert not any("pip" in word or "apt" in word for each in final("RUN") for word in each.words)


def test_everything_that_is_installed_is_pinned_by_the_lock():
    installs = [each.words[0] for each in dockerfile() if each.name == "RUN" and "uv pip install" in each.words[0]]
    assert len(installs) == 2
    needed, package = installs
    assert "--constraints requirements.lock" in needed
    assert {"--no-deps", "--build-constraints"} <= set(package.split())


def test_the_image_alone_has_an_unprivileged_user_a_health_check_and_orderly_stops():
    user, group = final("USER")[0].words[0].split(":")
    assert int(user) > 0
    assert int(group) > 0
    # A volume that is mounted there first takes over its owner.
    made = (
        f"install --directory --owner {user} --group {group} --mode 0700 {image_environment()['QUARTERDECK_DATA_DIR']}"
    )
    assert any(made in word for each in final("RUN") for word in each.words)
    (check,) = final("HEALTHCHECK CMD")
    assert int(check.flags["timeout"].removesuffix("s")) > 4
    assert final("STOPSIGNAL")[0].words == ["SIGTERM"]
    assert (final("ENTRYPOINT")[0].words, final("CMD")[0].words) == (["qd"], ["serve"])
