"""Packages -> an HTTP server that answers as the offline predictor does."""
