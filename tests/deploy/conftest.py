"""Ray's environment is that of tests/embed: it reads it when it is imported, and these tests import it first."""

import tests.embed.conftest  # noqa: F401
