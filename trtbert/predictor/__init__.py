"""Texts -> answers, from a package, with no compile-time library."""

from trtbert.predictor.encoder import Encoder
from trtbert.predictor.job import Job
from trtbert.predictor.predictor import Predictor, load
from trtbert.predictor.tokens import load_tokenizer, make_feeds, tokenize

__all__ = ["Encoder", "Job", "Predictor", "load", "load_tokenizer", "make_feeds", "tokenize"]
