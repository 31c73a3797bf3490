"""The settings of a process: what they are, where they come from, and which values are refused.

Flags come before the environment (`QUARTERDECK_<NAME>`, a section's setting after `__`; `QUARTERDECK_<NAME>_FILE` names
a file that holds the value), that before the file `quarterdeck.toml`, that before the default.

Quart's loaders are not used, because what they forgive is refused here. `Config.from_file` drops every key that is not
upper-case, so a misspelt or lower-case name vanishes; `from_prefixed_env` takes `1` or `null` for a JSON value where
text is meant and accepts every name; neither knows where a value came from nor reads secrets from files. Importing them
also takes all of Quart along, most of a second on a small machine, before `qd --help` could answer.
"""

from quarterdeck.config.settings import ConfigError, Settings
from quarterdeck.config.sources import Loaded, SettingInfo, client_environment, load, settings_table
from quarterdeck.config.values import (
    QueueRule,
    is_loopback,
    mask_password,
    parse_bind,
    parse_queues,
    parse_servers,
    parse_targets,
)

__all__ = [
    "ConfigError",
    "Loaded",
    "QueueRule",
    "SettingInfo",
    "Settings",
    "client_environment",
    "is_loopback",
    "load",
    "mask_password",
    "parse_bind",
    "parse_queues",
    "parse_servers",
    "parse_targets",
    "settings_table",
]
