"""A person's own defaults for options, from a file in the place where the platform keeps settings.

    index:
      exclude: ["*.tmp.jpg"]
      videos: true
    search:
      k: 20

An option of the command line has precedence.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from crossatnet.system.errors import UserError, did_you_mean


def defaults_file() -> Path:
    """Where the defaults are: CROSSATNET_CONFIG, or config.yaml in the user's folder of settings."""
    given = os.environ.get("CROSSATNET_CONFIG")
    return Path(given) if given else platformdirs.user_config_path("crossatnet") / "config.yaml"


def read_defaults(commands: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of each of typer's commands, by its name, as they are taken by it; nothing without a file.

    Raises `UserError`, naming the file, for what is no YAML, and for a command or an option that is not known.
    """
    file = defaults_file()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); correct it or remove it") from error
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise UserError(f"{file}: expected commands with their options, such as 'search: {{k: 20}}'")
    return {name: _options(file, commands, str(name), options) for name, options in found.items()}


def _options(file: Path, commands: Mapping[str, Any], name: str, options: object) -> dict[str, Any]:
    command = commands.get(name)
    if command is None or hasattr(command, "commands"):  # a group, which has no options
        raise UserError(f"{file}: no command '{name}'; {did_you_mean(name, commands)}")
    if not isinstance(options, dict):
        raise UserError(f"{file}: {name}: expected options and values, such as 'k: 20'")
    known = {
        spelling.lstrip("-"): parameter.name
        for parameter in command.params
        if parameter.param_type_name == "option"
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    }
    for option in options:
        if str(option) not in known:
            raise UserError(f"{file}: {name}: no option '{option}'; {did_you_mean(str(option), known)}")
    return {str(known[str(option)]): value for option, value in options.items()}
