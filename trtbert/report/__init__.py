"""Packages -> one HTML page that says what was done, what was measured and what to trust, and the same as JSON."""
