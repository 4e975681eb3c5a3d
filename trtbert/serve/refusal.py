"""Why a request gets no answer, as an HTTP status with a message for the client."""


class Refusal(Exception):
    """Answered with `status` and `message`; with `retry_after` seconds the client is asked to come again."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class ClientGone(Exception):
    """The client closed its connection: nobody reads an answer."""
