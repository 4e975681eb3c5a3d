"""A JSON file of a user -> its value, or a message that says what is wrong with the file."""

import json
from pathlib import Path
from typing import Any

from trtbert.errors import InputError


def read_json(path: Path) -> Any:
    """Raises InputError where the file is missing, unreadable or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist. A Hugging Face model folder holds one; copy it from where the model was saved."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). Download it or save the model again.") from error
