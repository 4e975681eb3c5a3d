"""Every failure a user can cause, each with the exit code the command line gives it."""


class TrtbertError(Exception):
    """Base of our own errors: one message, no traceback, exit code 2 to 5."""

    exit_code = 1


class InputError(TrtbertError):
    """A file, folder or text that cannot be used as it is."""

    exit_code = 2


class ConfigError(InputError):
    """One or several wrong options; the message lists all of them."""


class PackageError(InputError):
    """A package that is incomplete, was altered, or is not a package."""


class UnsupportedError(TrtbertError):
    """A model, or a combination of target, runtime and precision, that trtbert does not support."""

    exit_code = 3


class FusionError(UnsupportedError):
    """A fusion did not fire where the architecture says it must."""


class VerificationError(TrtbertError):
    """The outputs differ from the source model's by more than the tolerance."""

    exit_code = 4


class TrainingError(TrtbertError):
    """Training went wrong: a loss that is not finite, a teacher that knows nothing."""

    exit_code = 4


class MissingRuntimeError(TrtbertError):
    """A runtime, compiler or GPU that was asked for is not there."""

    exit_code = 5
