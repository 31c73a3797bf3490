"""Migrations as they lie in their directory: pairs of `NNNN_name.up.sql` and `NNNN_name.down.sql`."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

NO_TRANSACTION = "-- no-transaction"
"""As the first line of a file: its statements run one by one, outside any transaction."""

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<direction>up|down)\.sql")
# What a `;` inside of does not end a statement; nested comments and dollar quotes are followed to their ends by hand.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*)|(?P<dollar>(?<![\w$])\$(?:[^\W\d]\w*)?\$)|;"""
    r"""|(?<!\w)[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*\"""",
    re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ENDS_TRANSACTION = frozenset({"begin", "commit", "rollback", "abort", "start"})


class MigrationError(Exception):
    """The schema is not, and cannot be made, what this program needs; the message names the migrations."""


class Statement(msgspec.Struct, frozen=True):
    """One statement of a script: where it begins, how it is written, and the same without comments."""

    offset: int
    text: str
    bare: str


class Script(msgspec.Struct, frozen=True):
    """One file."""

    path: Path
    text: str

    @property
    def transactional(self) -> bool:
        """Whether the file runs as one transaction."""
        return self.text.partition("\n")[0].strip() != NO_TRANSACTION

    def line(self, offset: int) -> str:
        """Return the place of a character, for a message."""
        return f"{self.path.name}, line {self.text.count(chr(10), 0, offset) + 1}"


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema and the way back. `checksum` is the SHA-256 of the up file, in hexadecimal."""

    version: int
    name: str
    checksum: str
    up: Script
    down: Script

    @property
    def label(self) -> str:
        """How messages call it: `0001_initial`."""
        return f"{self.version:04d}_{self.name}"


def find_directory() -> Path:
    """Return where this program's own migrations are: in the installed package, or beside `src` in a checkout.

    Raises:
        MigrationError: in neither place.
    """
    here = Path(__file__).resolve()
    for directory in (here.parents[1] / "migrations", here.parents[3] / "migrations"):
        if directory.is_dir():
            return directory
    raise MigrationError("this installation has no migrations: the directory `migrations` is missing from the package")


def read_migrations(directory: Path) -> list[Migration]:
    """Read all migrations, in order.

    Raises:
        MigrationError: a file that is badly named, cannot be read, has no counterpart, or ends the transaction it runs
            in; two of one number; numbers that do not run from 1 without a gap.
    """
    scripts: dict[tuple[int, str], dict[str, Script]] = {}
    try:
        for path in sorted(directory.iterdir()):
            if path.suffix == ".sql":
                if not (match := _FILE.fullmatch(path.name)):
                    raise MigrationError(f"{path.name} is not called NNNN_name.up.sql or NNNN_name.down.sql")
                pair = scripts.setdefault((int(match["version"]), match["name"]), {})
                pair[match["direction"]] = _read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise MigrationError(f"the migrations in {directory} cannot be read: {error}") from error
    if not scripts:
        raise MigrationError(f"there are no migrations in {directory}")
    migrations = [_pair(version, name, pair) for (version, name), pair in sorted(scripts.items())]
    for expected, migration in enumerate(migrations, 1):
        if migration.version < expected:
            raise MigrationError(f"two migrations have the number {migration.version:04d}")
        if migration.version > expected:
            raise MigrationError(f"migration {expected:04d} is missing: {migration.label} has none before it")
    return migrations


def split_statements(text: str) -> list[Statement]:
    """Split a script at its semicolons, leaving out what is only a comment.

    The body of an SQL function between `begin atomic` and `end` is split too.
    """
    return [statement for statement in _statements(text) if statement.bare]


def _read(path: Path) -> Script:
    # The same text has the same checksum however a version control system writes line ends.
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    script = Script(path, text)
    statements = split_statements(text)
    for statement in statements:
        word = statement.bare.split(maxsplit=1)[0].lower()
        if script.transactional and word in _ENDS_TRANSACTION:
            raise MigrationError(
                f"{script.line(statement.offset)}: `{word}` would end the transaction the file runs in"
            )
    return script


def _pair(version: int, name: str, pair: dict[str, Script]) -> Migration:
    for direction, other in (("up", "down"), ("down", "up")):
        if direction not in pair:
            raise MigrationError(f"{pair[other].path.name} has no counterpart {version:04d}_{name}.{direction}.sql")
    checksum = hashlib.sha256(pair["up"].text.encode()).hexdigest()
    return Migration(version, name, checksum, pair["up"], pair["down"])


def _statements(text: str) -> Iterator[Statement]:
    begin = at = bare_from = 0
    bare: list[str] = []
    while match := _TOKEN.search(text, at):
        at = match.end()
        if match["comment"]:
            bare.append(text[bare_from : match.start()])
            at = bare_from = _comment_end(text, at) if match[0] == "/*" else at
        elif match["dollar"]:
            end = text.find(match[0], at)
            at = len(text) if end < 0 else end + len(match[0])
        elif match[0] == ";":
            yield _statement(text, begin, at - 1, "".join([*bare, text[bare_from : at - 1]]))
            begin = bare_from = at
            bare.clear()
    yield _statement(text, begin, len(text), "".join([*bare, text[bare_from:]]))


def _statement(text: str, begin: int, end: int, bare: str) -> Statement:
    written = text[begin:end]
    return Statement(begin + len(written) - len(written.lstrip()), written.strip(), bare.strip())


def _comment_end(text: str, at: int) -> int:
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(text, at)):
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return len(text) if depth else at
