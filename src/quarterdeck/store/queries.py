"""The statements: one `.sql` file each, loaded at import, found by name.

`{name}` in a statement stands for the fixed piece `parts/name.sql`.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_PART = re.compile(r"\{([a-z_]+)\}")


def _load() -> Mapping[str, str]:
    folder = files("quarterdeck.store") / "sql"
    parts = {item.name.removesuffix(".sql"): item.read_text("utf-8").strip() for item in (folder / "parts").iterdir()}
    return MappingProxyType(
        {
            item.name.removesuffix(".sql"): _PART.sub(lambda match: parts[match[1]], item.read_text("utf-8")).strip()
            for item in folder.iterdir()
            if item.name.endswith(".sql")
        }
    )


SQL: Mapping[str, str] = _load()
"""Statement text by name. A missing piece or name is a KeyError, at import or at first use."""
