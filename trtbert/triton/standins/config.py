"""Stands in for trtbert.config in a model repository: the names that trtbert.predictor imports for its annotations."""

from types import SimpleNamespace

Profile = SimpleNamespace
Target = str
