import hashlib

import pytest

from quarterdeck.store.migration_files import MigrationError, find_directory, read_migrations, split_statements


def write(directory, **files: str):
    for name, text in files.items():
        stem, direction = name.rsplit("_", 1)
        (directory / f"{stem.removeprefix('m')}.{direction}.sql").write_text(text)


def test_migrations_are_read_in_order_with_both_ways(tmp_path):
    write(tmp_path, m0002_b_up="select 2;", m0002_b_down="select -2;", m0001_a_1_up="select 1;", m0001_a_1_down="")
    (tmp_path / "README.md").write_text("no migration")
    first, second = read_migrations(tmp_path)
    assert (first.version, first.name, first.label) == (1, "a_1", "0001_a_1")
    assert (second.up.text, second.down.text) == ("select 2;", "select -2;")
    assert second.checksum == hashlib.sha256(b"select 2;").hexdigest()


@pytest.mark.parametrize(
    "written", [b"select 1;\nselect 2;\n", b"select 1;\r\nselect 2;\r\n", b"\xef\xbb\xbfselect 1;\rselect 2;\r"]
)
def test_the_checksum_does_not_depend_on_line_ends(tmp_path, written):
    (tmp_path / "0001_a.up.sql").write_bytes(written)
    (tmp_path / "0001_a.down.sql").write_bytes(b"")
    (migration,) = read_migrations(tmp_path)
    assert migration.checksum == hashlib.sha256(b"select 1;\nselect 2;\n").hexdigest()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there are no migrations in "),
        (["0001_a.up.sql"], "0001_a.up.sql has no counterpart 0001_a.down.sql"),
        (["0001_a.down.sql"], "0001_a.down.sql has no counterpart 0001_a.up.sql"),
        (["0001_a.up.sql", "0001_b.down.sql"], "0001_a.up.sql has no counterpart 0001_a.down.sql"),
        (
            ["0001_a.up.sql", "0001_a.down.sql", "0001_b.up.sql", "0001_b.down.sql"],
            "two migrations have the number 0001",
        ),
        (["0002_a.up.sql", "0002_a.down.sql"], "migration 0001 is missing: 0002_a has none before it"),
        (["0000_a.up.sql", "0000_a.down.sql"], "two migrations have the number 0000"),
        (
            ["0001_a.up.sql", "0001_a.down.sql", "0003_c.up.sql", "0003_c.down.sql"],
            "migration 0002 is missing: 0003_c has none before it",
        ),
        (["1_a.up.sql"], "1_a.up.sql is not called NNNN_name.up.sql or NNNN_name.down.sql"),
        (["0001_a.sql"], "0001_a.sql is not called"),
        (["0001-a.up.sql"], "0001-a.up.sql is not called"),
        (["0001_A.up.sql"], "0001_A.up.sql is not called"),
    ],
)
def test_a_directory_that_is_no_sequence_of_pairs_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(MigrationError) as refused:
        read_migrations(tmp_path)
    assert str(refused.value).startswith(message)


def test_a_directory_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(MigrationError, match=r"the migrations in .*missing cannot be read: .*No such file"):
        read_migrations(tmp_path / "missing")
    (tmp_path / "0001_a.up.sql").write_bytes(b"\xff")
    with pytest.raises(MigrationError, match=r"cannot be read: .*utf-8"):
        read_migrations(tmp_path)


@pytest.mark.parametrize("word", ["begin", "BEGIN transaction", "commit", "rollback", "abort", "start transaction"])
def test_a_file_that_ends_its_transaction_is_refused_with_the_line(tmp_path, word):
    write(tmp_path, m0001_a_up="create table t ();\n\n -- why\n" + word + ";", m0001_a_down="")
    with pytest.raises(MigrationError, match=r"0001_a.up.sql, line 3: `(begin|commit|rollback|abort|start)` would end"):
        read_migrations(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "do $$ begin perform 1; commit; end $$;",
        "-- begin\nselect 1;",
        "select 'x; commit; y';",
        "create function f() returns int language sql begin atomic select 1; select 2; end;",
        "-- no-transaction\nbegin; create table t (); commit;",
    ],
)
def test_these_files_end_no_transaction(tmp_path, text):
    write(tmp_path, m0001_a_up=text, m0001_a_down="")
    assert read_migrations(tmp_path)


@pytest.mark.parametrize(
    ("text", "transactional"),
    [
        ("-- no-transaction\nselect 1;", False),
        ("-- no-transaction  \nselect 1;", False),
        ("-- no-transaction", False),
        ("select 1;\n-- no-transaction", True),
        ("-- no-transactions\nselect 1;", True),
        ("", True),
    ],
)
def test_the_first_line_says_whether_a_file_runs_in_a_transaction(tmp_path, text, transactional):
    write(tmp_path, m0001_a_up=text, m0001_a_down=text)
    (migration,) = read_migrations(tmp_path)
    assert migration.up.transactional is transactional
    assert migration.down.transactional is transactional


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ;;\n; ", []),
        ("-- only a comment; really", []),
        ("/* only */ -- comments\n", []),
        ("select 1", ["select 1"]),
        ("select 1; select 2;\n", ["select 1", "select 2"]),
        ("select 1; -- after\n", ["select 1"]),
        ("-- before\nselect 1;", ["-- before\nselect 1"]),
        ("select 'a;b'; select 'it''s;'; x", ["select 'a;b'", "select 'it''s;'", "x"]),
        (r"select E'a\';b'; x", [r"select E'a\';b'", "x"]),
        (r"select 'a\'; x", [r"select 'a\'", "x"]),
        (r"select e'\\'; x", [r"select e'\\'", "x"]),
        ('select "a;""b;" from t; x', ['select "a;""b;" from t', "x"]),
        ("select $$a;b$$; x", ["select $$a;b$$", "x"]),
        ("select $a$ ; $b$ ; $$ ; $a$; x", ["select $a$ ; $b$ ; $$ ; $a$", "x"]),
        ("select $été$;$été$; x", ["select $été$;$été$", "x"]),
        ("prepare p as select $1; select $2; x", ["prepare p as select $1", "select $2", "x"]),
        ("select a$b; select c$b; x", ["select a$b", "select c$b", "x"]),
        ("select 1 /* ; */; x", ["select 1 /* ; */", "x"]),
        ("select 1 /* ; /* ; */ ; */; x", ["select 1 /* ; /* ; */ ; */", "x"]),
        ("select 1 -- ; it's\n, 2; x", ["select 1 -- ; it's\n, 2", "x"]),
        ("select '-- /* $$'; x", ["select '-- /* $$'", "x"]),
        ("select $$ -- ' /* $$; x", ["select $$ -- ' /* $$", "x"]),
        ("select 5 * 3 / 2; x", ["select 5 * 3 / 2", "x"]),
        ("select 1; /* never closed ; x", ["select 1"]),
        ("select $$ never closed ; x", ["select $$ never closed ; x"]),
    ],
)
def test_a_script_is_split_at_its_own_semicolons_only(text, statements):
    found = split_statements(text)
    assert [statement.text for statement in found] == statements
    assert all(text[statement.offset :].startswith(statement.text) for statement in found)


def test_a_statement_is_known_without_its_comments():
    (statement,) = split_statements("-- why\n/* a /* b */ */ create -- here\n index i;")
    assert statement.bare.split() == ["create", "index", "i"]


def test_the_migrations_of_this_program_are_found_and_in_order():
    migrations = read_migrations(find_directory())
    assert migrations[0].label == "0001_initial"
