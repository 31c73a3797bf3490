import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta
from rich.pretty import pretty_repr

from quarterdeck.config import (
    ConfigError,
    QueueRule,
    Settings,
    client_environment,
    is_loopback,
    load,
    mask_password,
    parse_bind,
    parse_queues,
    parse_servers,
    settings_table,
    sources,
)

SECRET = "correct-horse-battery"
DSN = f"postgresql://qd:{SECRET}@db.example:5432/app"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No settings file in the working directory, unless the test writes one."""
    monkeypatch.chdir(tmp_path)


def settings(**values) -> Settings:
    return load(values, environ={}).settings


def refusal(flags=None, **sources) -> str:
    with pytest.raises(ConfigError) as refused:
        load(flags, **{"environ": {}, **sources})
    return str(refused.value)


# Where values come from.


def test_without_any_source_every_setting_has_its_default():
    loaded = load(environ={})
    assert loaded.settings == Settings()
    assert set(loaded.origin.values()) == {"default"}
    assert list(loaded.origin) == [info.name for info in settings_table()]


def test_flags_come_before_the_environment_before_the_file_before_the_default(tmp_path):
    file = tmp_path / "qd.toml"
    file.write_text('bind = "127.0.0.1:1"\nrole = "web"\nlease = 20')
    environ = {"QUARTERDECK_BIND": "127.0.0.1:2", "QUARTERDECK_ROLE": "worker"}
    loaded = load({"bind": "127.0.0.1:3", "role": None}, environ=environ, file=file)
    assert (loaded.settings.bind, loaded.settings.role, loaded.settings.lease) == ("127.0.0.1:3", "worker", 20.0)
    assert loaded.origin["bind"] == "flag --bind"
    assert loaded.origin["role"] == "environment QUARTERDECK_ROLE"
    assert loaded.origin["lease"] == f"file {file}"
    assert loaded.origin["concurrency"] == "default"


def test_a_flag_that_was_not_given_hides_nothing():
    assert load({"role": None}, environ={"QUARTERDECK_ROLE": "web"}).settings.role == "web"


def test_the_environment_of_the_process_is_read_by_itself(monkeypatch):
    monkeypatch.setenv("QUARTERDECK_CONCURRENCY", "7")
    assert load().settings.concurrency == 7


def test_the_file_in_the_working_directory_is_read_by_itself():
    Path("quarterdeck.toml").write_text("concurrency = 7")
    loaded = load(environ={})
    assert loaded.settings.concurrency == 7
    assert loaded.origin["concurrency"] == "file quarterdeck.toml"


def test_a_named_file_replaces_the_one_in_the_working_directory(tmp_path):
    Path("quarterdeck.toml").write_text("concurrency = 7\nlease = 7")
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("concurrency = 8")
    third.write_text("concurrency = 9")
    environ = {"QUARTERDECK_CONFIG": str(other)}
    assert load(environ=environ).settings == Settings(concurrency=8)
    assert load(environ=environ, file=third).settings == Settings(concurrency=9)


@pytest.mark.parametrize("name", ["quarterdeck.toml", "missing.toml"])
def test_a_named_file_must_exist(name):
    expected = f"the settings file {name} cannot be read: No such file or directory"
    assert refusal(file=Path(name)) == expected
    assert refusal(environ={"QUARTERDECK_CONFIG": name}) == expected


def test_an_empty_name_of_a_file_is_none():
    assert load(environ={"QUARTERDECK_CONFIG": ""}).settings == Settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"lease = \nrole = 1", "line 1"),
        (b"lease = 5\nlease = 6\n\n", "line 2"),
        (b"app = \xff", "utf-8"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_the_place(tmp_path, content, reason):
    file = tmp_path / "qd.toml"
    file.write_bytes(content)
    message = refusal(file=file)
    assert message.startswith(f"the settings file {file} cannot be read: ")
    assert reason in message


def test_a_directory_is_no_settings_file(tmp_path):
    assert refusal(file=tmp_path).endswith("cannot be read: Is a directory")


# Secrets in files.


def test_a_value_may_come_from_a_file_that_the_environment_names(tmp_path):
    file = tmp_path / "dsn"
    file.write_text(DSN + "\n")
    loaded = load(environ={"QUARTERDECK_DATABASE_URL_FILE": str(file)})
    assert loaded.settings.database_url == DSN
    assert loaded.origin["database_url"] == f"file {file} (QUARTERDECK_DATABASE_URL_FILE)"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_newline_at_the_end_of_such_a_file_is_not_part_of_the_value(tmp_path, ending):
    file = tmp_path / "app"
    file.write_bytes(b"a.b:c" + ending.encode())
    assert load(environ={"QUARTERDECK_APP_FILE": str(file)}).settings.app == "a.b:c"


def test_a_second_newline_is_part_of_the_value(tmp_path):
    (tmp_path / "app").write_text("a.b:c\n\n")
    assert "expected module:attribute" in refusal(environ={"QUARTERDECK_APP_FILE": str(tmp_path / "app")})


def test_a_variable_and_its_file_together_are_refused(tmp_path):
    (tmp_path / "app").write_text("a:b")
    environ = {"QUARTERDECK_APP": "a:b", "QUARTERDECK_APP_FILE": str(tmp_path / "app")}
    assert refusal(environ=environ) == "QUARTERDECK_APP and QUARTERDECK_APP_FILE are both set; give one of them"
    assert load(environ=environ | {"QUARTERDECK_APP": ""}).settings.app == "a:b"
    assert load(environ=environ | {"QUARTERDECK_APP_FILE": ""}).settings.app == "a:b"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read: No such file or directory"), ("", "is empty"), ("\n", "is empty")]
)
def test_a_secret_that_is_not_in_its_file_is_refused(tmp_path, content, reason):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    assert refusal(environ={"QUARTERDECK_API_KEYS_FILE": str(file)}) == (
        f"QUARTERDECK_API_KEYS_FILE = {str(file)!r} {reason}"
    )


# Unknown names.


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("QUARTERDECK_LESE", "did you mean QUARTERDECK_LEASE?"),
        ("QUARTERDECK_DATABASE_URI", "did you mean QUARTERDECK_DATABASE_URL?"),
        ("QUARTERDECK_API_KEYS_FIL", "did you mean QUARTERDECK_API_KEYS_FILE?"),
        ("QUARTERDECK_CONFIG_FILE", "did you mean QUARTERDECK_CONFIG?"),
        ("QUARTERDECK_bind", "did you mean"),
        ("QUARTERDECK_PORT", "did you mean"),
        ("QUARTERDECK_BIND__PORT", "did you mean"),
        ("QUARTERDECK_", ""),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name_and_without_its_value(variable, nearest):
    message = refusal(environ={variable: SECRET})
    assert message.startswith(f"unknown environment variable {variable};")
    assert nearest in message
    assert SECRET not in message


def test_a_name_that_is_near_to_nothing_says_where_the_names_are():
    assert refusal({"zzzzzz": 1}) == "unknown flag --zzzzzz; `qd config show` lists all settings"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lese = 5", "unknown setting 'lese' in qd.toml; did you mean lease?"),
        ("database-url = 'embedded'", "unknown setting 'database-url' in qd.toml; did you mean database_url?"),
        ("[bind]\nhost = 'a'", "bind = {'host': 'a'} (from file qd.toml): expected text"),
        ("[server]\nbind = 'a:1'", "unknown setting 'server' in qd.toml;"),
        ("LEASE = 5", "unknown setting 'LEASE' in qd.toml;"),
    ],
)
def test_an_unknown_key_in_the_file_is_refused(line, expected):
    Path("qd.toml").write_text(line)
    assert refusal(file=Path("qd.toml")).startswith(expected)


def test_variables_of_other_programs_are_nobody_s_business():
    environ = {"PATH": "/bin", "QUARTERDECKS": "1", "quarterdeck_x": "1", "QUARTERDECK": "1"}
    assert load(environ=environ).settings == Settings()


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_settings():
    environ = {
        "QUARTERDECK_PORT": "tcp://10.0.0.7:80",
        "QUARTERDECK_PORT_80_TCP": "tcp://10.0.0.7:80",
        "QUARTERDECK_PORT_80_TCP_PROTO": "tcp",
        "QUARTERDECK_PORT_80_TCP_PORT": "80",
        "QUARTERDECK_PORT_80_TCP_ADDR": "10.0.0.7",
        "QUARTERDECK_SERVICE_HOST": "10.0.0.7",
        "QUARTERDECK_SERVICE_PORT": "80",
        "QUARTERDECK_SERVICE_PORT_HTTP": "80",
        "QUARTERDECK_API_SERVICE_HOST": "10.0.0.8",
    }
    assert load(environ=environ).settings == Settings()


def test_what_the_client_commands_read_is_known_but_no_setting(tmp_path):
    (tmp_path / "key").write_text(SECRET + "\n")
    environ = {"QUARTERDECK_URL": "http://a", "QUARTERDECK_API_KEY_FILE": str(tmp_path / "key"), "QUARTERDECK_APP": ""}
    assert load(environ=environ).settings == Settings()
    assert client_environment(environ) == {"url": "http://a", "api_key": SECRET}
    assert client_environment({"QUARTERDECK_URL": ""}) == {}


# Sections.


class Section(msgspec.Struct, frozen=True, kw_only=True):
    host: Annotated[str, Meta(description="d")] = "a"
    retries: Annotated[int, Meta(description="d", ge=0, le=9)] = 3


class Sectioned(msgspec.Struct, frozen=True, kw_only=True):
    top: Annotated[str, Meta(description="d")] = "t"
    smtp: Section = Section()


def test_a_section_is_a_table_in_the_file_and_two_underscores_in_the_environment():
    Path("quarterdeck.toml").write_text("[smtp]\nhost = 'file'\nretries = 4")
    loaded = sources._load(Sectioned, {}, {"QUARTERDECK_SMTP__RETRIES": "5"}, None)
    assert loaded.settings == Sectioned(smtp=Section(host="file", retries=5))
    assert loaded.origin["smtp.host"] == "file quarterdeck.toml"
    with pytest.raises(
        ConfigError, match=r"^smtp.retries = '10' \(from environment QUARTERDECK_SMTP__RETRIES\): expec"
    ):
        sources._load(Sectioned, {}, {"QUARTERDECK_SMTP__RETRIES": "10"}, None)
    Path("quarterdeck.toml").write_text("[smtp]\nhots = 'file'")
    with pytest.raises(ConfigError, match=r"unknown setting 'smtp.hots' .* did you mean smtp.host\?"):
        sources._load(Sectioned, {}, {}, None)


# Values.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("database_url", "embedded", "embedded"),
        ("database_url", "postgresql://u@h1:1,h2:2/db?host=/tmp", "postgresql://u@h1:1,h2:2/db?host=/tmp"),
        ("database_url", "postgres://h/db", "postgres://h/db"),
        ("bind", "[::1]:0", "[::1]:0"),
        ("bind", "example.com:65535", "example.com:65535"),
        ("app", "examples.quickstart:deck", "examples.quickstart:deck"),
        ("app", "myapp:app.deck", "myapp:app.deck"),
        ("role", "WEB", "web"),
        ("queues", "a,b=5,tenant-*", "a,b=5,tenant-*"),
        ("memcached", "a:11211,[::1]:11211", "a:11211,[::1]:11211"),
        ("bus", "postgres", "postgres"),
        ("bus", "off", "off"),
        ("bus", "redis://u:p@h:6379/1?socket_timeout=1", "redis://u:p@h:6379/1?socket_timeout=1"),
        ("bus", "rediss://[::1]", "rediss://[::1]"),
        ("bus", "valkey://u:p/q@h", "valkey://u:p/q@h"),
        ("concurrency", "10000", 10_000),
        ("lease", "15", 15.0),
        ("lease", "1", 1.0),
        ("lease", "5m", 300.0),
        ("shutdown_grace", "0", 0.0),
        ("shutdown_grace", "0.5", 0.5),
        ("shutdown_grace", "PT1H", 3600.0),
        ("auth", "Off", "off"),
        ("api_keys", f"ci:{SECRET}", f"ci:{SECRET}"),
        ("allow_private_targets", "10.0.0.0/8, fd00::/8,::1,127.0.0.1,db_1.internal", None),
        ("migrate", "false", False),
        ("migrate", "1", True),
        ("log_level", "INFO", "info"),
        ("log_format", "json", "json"),
    ],
)
def test_a_text_from_the_environment_becomes_the_value(name, text, value):
    variable = f"QUARTERDECK_{name.upper()}"
    got = getattr(load(environ={variable: text}).settings, name)
    assert got == (text if value is None else value)
    assert type(got) is type(text if value is None else value)


def test_the_file_and_flags_may_hold_typed_values(tmp_path):
    Path("quarterdeck.toml").write_text("migrate = false\nconcurrency = 5\nlease = 5\nshutdown_grace = '10s'")
    assert load({"data_dir": tmp_path, "bind": "a:1"}, environ={}).settings == Settings(
        migrate=False, concurrency=5, lease=5.0, shutdown_grace=10.0, data_dir=str(tmp_path), bind="a:1"
    )


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("database_url", "", "expected `embedded` or a URL"),
        ("database_url", "embeded", "expected `embedded` or a URL"),
        ("database_url", "mysql://h/db", "expected `embedded` or a URL"),
        ("database_url", "postgresql+asyncpg://h/db", "expected `embedded` or a URL"),
        ("data_dir", "", "expected text that is not empty"),
        ("data_dir", "a\0b", "must not hold a NUL"),
        ("bind", "", "expected host:port"),
        ("bind", "8000", "expected host:port"),
        ("bind", ":8000", "expected host:port"),
        ("bind", "localhost", "expected host:port"),
        ("bind", "localhost:", "expected host:port"),
        ("bind", "localhost:65536", "a port from 0 to 65535"),
        ("bind", "localhost:-1", "expected host:port"),
        ("bind", "localhost:٣", "expected host:port"),
        ("bind", "::1:8000", "[::1]:8000"),
        ("bind", "[::g]:8000", "'g'"),
        ("bind", "127.0.0:8000", "octets"),
        ("bind", "256.0.0.1:8000", "255"),
        ("bind", "http://localhost:8000", "expected host:port"),
        ("app", "myapp", "expected module:attribute"),
        ("app", "my-app:deck", "expected module:attribute"),
        ("app", "myapp:", "expected module:attribute"),
        ("app", "myapp:make()", "expected module:attribute"),
        ("app", "a:b:c", "expected module:attribute"),
        ("role", "wrker", "expected one of all, web, worker"),
        ("role", "", "expected one of all, web, worker"),
        ("queues", "a,", "an item is empty"),
        ("queues", "a b", "'a b' is no name of a queue"),
        ("memcached", "a", "expected host:port"),
        ("memcached", "a:0", "a port from 1 to 65535"),
        ("bus", "", "expected `postgres`, `off` or a URL"),
        ("bus", "redis", "expected `postgres`, `off` or a URL"),
        ("bus", "http://h", "expected `postgres`, `off` or a URL"),
        ("bus", "redis://", "expected a host"),
        ("bus", "redis://h:0", "expected a host"),
        ("bus", "redis://[::g]:1", "expected a host"),
        ("bus", "redis://h/queue", "the number of a database"),
        ("concurrency", "0", "expected a whole number from 1 to 10000"),
        ("concurrency", "10001", "expected a whole number from 1 to 10000"),
        ("concurrency", "1.5", "expected a whole number from 1 to 10000"),
        ("concurrency", "many", "expected a whole number from 1 to 10000"),
        ("lease", "0.9", "expected a duration from 1 to 300 seconds"),
        ("lease", "301s", "expected a duration from 1 to 300 seconds"),
        ("lease", "soon", "'soon' is not a duration"),
        ("lease", "-5", "'-5' is not a duration"),
        ("lease", "nan", "'nan' is not a duration"),
        ("shutdown_grace", "2h", "expected a duration from 0 to 3600 seconds"),
        ("auth", "on", "expected one of off, required"),
        ("allow_private_targets", "10.0.0.1/8", "has host bits set"),
        ("allow_private_targets", "a b", "does not appear to be"),
        ("allow_private_targets", "1.2.3", "does not appear to be"),
        ("migrate", "maybe", "expected true or false"),
        ("log_level", "loud", "expected one of "),
        ("log_format", "xml", "expected one of auto, console, json"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name_value_and_source(name, text, reason):
    variable = f"QUARTERDECK_{name.upper()}"
    message = refusal(environ={variable: text})
    assert message.startswith(f"{name} = {text!r} (from environment {variable}): ")
    assert reason in message.partition("): ")[2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("concurrency = true", "expected a whole number"),
        ("concurrency = [5]", "expected a whole number"),
        ("lease = true", "True is not a duration"),
        ("lease = inf", "inf is too long"),
        ("migrate = 1", "expected true or false"),
        ("queues = ['a']", "expected text"),
        ("queues = ''", "an item is empty"),
        ("role = 1", "expected one of"),
        ("data_dir = 2026-01-01", "expected text"),
    ],
)
def test_a_value_of_another_type_in_the_file_is_refused(line, reason):
    Path("quarterdeck.toml").write_text(line)
    message = refusal()
    assert message.startswith(line.split(" = ")[0])
    assert "(from file quarterdeck.toml): " in message
    assert reason in message


@pytest.mark.parametrize("name", ["app", "queues", "memcached", "auth", "api_keys", "allow_private_targets"])
def test_an_optional_setting_that_is_empty_in_the_environment_is_not_given(name):
    assert load(environ={f"QUARTERDECK_{name.upper()}": ""}).settings == Settings()


# Queues.


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (None, ()),
        ("a", (QueueRule("a"),)),
        (
            " a , b = 5 ,tenant-*,*=10000",
            (QueueRule("a"), QueueRule("b", 5), QueueRule("tenant-*"), QueueRule("*", 10000)),
        ),
        ("A_1.b:c-d=1", (QueueRule("A_1.b:c-d", 1),)),
        ("x" * 128, (QueueRule("x" * 128),)),
    ],
)
def test_rules_for_queues_are_read_in_order(text, rules):
    assert parse_queues(text) == rules


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",a", "a,,b", "a=", "a=0", "a=-1", "a=10001", "a=1.5", "a=x", "a=1=2", "a=" + "9" * 5000, "=5"),
        *("-a", ".a", "a*b", "**", "a**", "*a", "a/b", "é", "x" * 129, "a,a", "a,a=2"),
    ],
)
def test_what_is_no_rule_for_queues_is_refused(text):
    with pytest.raises(ValueError, match=r"empty|no name of a queue|no limit|given twice"):
        parse_queues(text)


def test_a_rule_matches_its_queue_or_the_queues_of_its_prefix():
    assert QueueRule("a").matches("a")
    assert not QueueRule("a").matches("ab")
    assert QueueRule("a-*").matches("a-")
    assert QueueRule("a-*").matches("a-b")
    assert not QueueRule("a-*").matches("a")
    assert QueueRule("*").matches("anything")


# Addresses.


def test_an_address_is_a_host_without_brackets_and_a_port():
    assert parse_bind("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert parse_bind("[::1]:0") == ("::1", 0)
    assert parse_servers(None) == ()
    assert parse_servers("a:1, [::1]:2") == (("a", 1), ("::1", 2))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.255.0.3", "::1", "[::1]", "::ffff:127.0.0.1", "0:0::1"],
)
def test_these_hosts_are_this_machine_s_own(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "", "10.0.0.1", "::ffff:10.0.0.1", "128.0.0.1", "127.1", "2130706433", "0x7f000001"),
        *("example.com", "localhost.example.com", "127.0.0.1.example.com", "my-localhost"),
    ],
)
def test_these_hosts_may_be_reached_from_elsewhere(host):
    assert not is_loopback(host)


# Keys and who must show one.


def test_keys_are_names_by_their_secrets():
    keys = settings(api_keys=f"ci:{SECRET}, ops:{SECRET}:with:colons").parsed_keys()
    assert keys == {SECRET: "ci", f"{SECRET}:with:colons": "ops"}
    assert settings().parsed_keys() == {}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (SECRET, "item 1 is not name:secret"),
        (f"ci:{SECRET},{SECRET}2", "item 2 is not name:secret"),
        (f":{SECRET}", "item 1 is not name:secret"),
        (f"my key:{SECRET}", "item 1 is not name:secret"),
        ("ci:", "the secret of item 1 needs printable"),
        (f"ci:{SECRET} {SECRET}", "the secret of item 1 needs printable characters"),
        (f"ci:{SECRET}é", "the secret of item 1 needs printable characters"),
        (f"ci:{SECRET},ci:{SECRET}2", "item 2 repeats"),
        (f"ci:{SECRET},ops:{SECRET}", "item 2 repeats"),
        (f"ci:{SECRET},", "an item is empty"),
    ],
)
def test_a_bad_key_is_refused_by_its_position_and_never_shown(keys, reason):
    message = refusal(environ={"QUARTERDECK_API_KEYS": keys})
    assert message.startswith("api_keys (from environment QUARTERDECK_API_KEYS): ")
    assert reason in message
    assert SECRET not in message
    assert "hunter2" not in message


LOCAL, OPEN = "127.0.0.1:8000", "0.0.0.0:8000"


@pytest.mark.parametrize(
    ("bind", "auth", "keys", "required"),
    [
        (LOCAL, None, None, False),
        ("[::1]:8000", None, None, False),
        (LOCAL, None, f"ci:{SECRET}", True),
        (OPEN, None, f"ci:{SECRET}", True),
        (LOCAL, "required", None, True),
        (OPEN, "required", None, True),
        (LOCAL, "off", f"ci:{SECRET}", False),
        (OPEN, "off", None, False),
    ],
)
def test_a_key_is_needed_where_keys_are_given_or_it_is_asked_for(bind, auth, keys, required):
    assert settings(bind=bind, auth=auth, api_keys=keys).auth_required() is required


@pytest.mark.parametrize("bind", [OPEN, "[::]:8000", "10.1.2.3:80", "example.com:80"])
def test_without_keys_an_address_that_others_reach_is_refused(bind):
    with pytest.raises(ConfigError, match=r"bind = .*QUARTERDECK_API_KEYS, or QUARTERDECK_AUTH=off"):
        settings(bind=bind).auth_required()


# Secrets are never shown.


def test_no_representation_of_settings_holds_a_secret():
    bus = f"redis://u:{SECRET}@cache.example"
    loaded = load({"database_url": DSN, "api_keys": f"ci:{SECRET}", "bus": bus}, environ={})
    for shown in (repr(loaded), str(loaded.settings), f"{loaded.settings}", pretty_repr(loaded)):
        assert "postgresql://qd:***@db.example:5432/app" in shown
        assert "redis://u:***@cache.example" in shown
        assert SECRET not in shown
    assert SECRET not in str(loaded.settings.masked())
    assert loaded.settings.masked()["bind"] == "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded", "embedded"),
        ("postgresql://h/db", "postgresql://h/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://u:p@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@s/s:w@h1,h2/db", "postgresql://u:***@h1,h2/db"),
        ("postgresql://u:x://y@h/db", "postgresql://u:***@h/db"),
        ("postgresql:///db?host=/s&password=p&user=u", "postgresql:///db?host=/s&password=***&user=u"),
        ("postgresql://h/db?password=p@q", "postgresql://h/db?password=***"),
        ("postgresql://h/db?sslpassword=p", "postgresql://h/db?sslpassword=***"),
    ],
)
def test_a_database_url_is_shown_without_its_password(url, shown):
    assert mask_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h",
        f"postgresql//u:{SECRET}@h",
        f"host=h user=u password={SECRET}",
        f"u:{SECRET}@h",
        f"http://h?password={SECRET}",
    ],
)
def test_a_refused_database_url_shows_no_password(url):
    message = refusal({"database_url": url})
    assert message.startswith("database_url")
    assert SECRET not in message


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h",
        f"redis://:{SECRET}@h:0",
        f"redis://:{SECRET}@h/x",
        f"u:{SECRET}@h",
        f"http://h?password={SECRET}",
    ],
)
def test_a_refused_url_of_a_bus_shows_no_password(url):
    message = refusal({"bus": url})
    assert message.startswith("bus")
    assert SECRET not in message


# The table for the manual, and the cost of an import.


def test_the_table_describes_every_setting():
    table = {info.name: info for info in settings_table()}
    assert tuple(table) == Settings.__struct_fields__
    assert {name for name, info in table.items() if info.secret} == {"database_url", "bus", "api_keys"}
    assert all(info.description and info.env == f"QUARTERDECK_{info.name.upper()}" for info in table.values())
    assert table["lease"].type == "a duration from 1 to 300 seconds"
    assert table["lease"].default == 15.0
    assert {name: info.default for name, info in table.items()} == msgspec.structs.asdict(Settings())


def test_reading_settings_does_not_import_the_web_framework():
    program = "import sys, quarterdeck.config; print({'quart', 'flask', 'asyncpg', 'structlog'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
