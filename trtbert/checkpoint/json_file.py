"""A JSON file of a user -> its value, or a message that says what is wrong with the file."""

import json
from pathlib import Path
from typing import Any

from trtbert.errors import InputError


def read_json(path: Path) -> Any:
    """Raises InputError where the file is missing, unreadable or no JSON."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a plain file. Copy it again from where the model was saved.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist. A Hugging Face model folder holds one; copy it from where the model was saved."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise InputError(
            f"{path} holds {half!a}, a lone surrogate, which is no character. Write the whole character in its place."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). Download it or save the model again.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply to be a config. Download it or save the model again.") from error
    return value


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`; an InputError too for anything but a JSON object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, got a {type(value).__name__}. Save the model again with save_pretrained.")
    return value
