"""Tables that a command writes into a page of docs/."""


def between_marks(page: str, mark: str, text: str) -> str:
    """The page with `text` between its lines <!-- mark --> and <!-- end of mark -->."""
    start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    assert page.count(start) == page.count(end) == 1, f"the page has no lines {start.strip()} and {end.strip()}"
    before, rest = page.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{text}\n{end}{after}"
