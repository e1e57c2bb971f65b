"""JSON and YAML from elsewhere, read within bounds: a small file must not take memory or time without end."""

import json
from typing import Any

import yaml

LARGEST_YAML = 1_000_000  # characters; the longest of our own has 4,000
MERGED_KEYS = 1_000  # of one mapping, by `<<`


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Raises `json.JSONDecodeError` also for JSON nested too deeply, and for numbers of 5,000 digits.

    Example:
        >>> from crossatnet.system.documents import parse_json
        >>> parse_json('{"k": [1, 2]}')
        {'k': [1, 2]}
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        json.decoder.JSONDecodeError: nested too deeply: line 1 column 1 (char 0)
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None
    except UnicodeDecodeError:
        raise json.JSONDecodeError("not UTF-8", "", 0) from None
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise json.JSONDecodeError(str(error), "", 0) from None


def parse_yaml(text: str) -> Any:
    """What YAML says. Raises `yaml.YAMLError` also for a text that is too long or too deep, and for merges that grow.

    Example:
        >>> from crossatnet.system.documents import parse_yaml
        >>> parse_yaml("train: {epochs: 3}")
        {'train': {'epochs': 3}}
    """
    if len(text) > LARGEST_YAML:
        raise yaml.YAMLError(f"longer than {LARGEST_YAML:,} characters")
    try:
        return yaml.load(text, _BoundedLoader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that counts what `<<` merges: each merge may double what the one before has made."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge as YAML does. Raises `yaml.YAMLError` for more than `MERGED_KEYS`."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                if sum(len(part.value) for part in parts) + len(parts) > MERGED_KEYS:
                    raise yaml.YAMLError(f"merges more than {MERGED_KEYS:,} keys")
        super().flatten_mapping(node)
        if len(node.value) > MERGED_KEYS:
            raise yaml.YAMLError(f"a mapping of more than {MERGED_KEYS:,} keys")
