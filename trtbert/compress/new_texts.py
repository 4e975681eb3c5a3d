"""A job's texts -> more of them for its teacher to answer, by rules or as a masked language model guesses."""

from pathlib import Path

from trtbert.checkpoint.hub import find_model
from trtbert.checkpoint.read import read_checkpoint
from trtbert.compress.augment import augment
from trtbert.compress.masked_words import augment_with_model
from trtbert.compress.method import Job
from trtbert.data import Text
from trtbert.errors import UnsupportedError


def check_augment(num_tries: int, model: Path | None) -> None:
    """ValueError, for the options of a method, where a model would guess words of no text."""
    if model is not None and not num_tries:
        raise ValueError("augment_model guesses words for augment: give augment, how often each text is changed, or leave it out")


def new_texts(job: Job, *, num_tries: int, model: Path | None) -> list[Text]:
    """Of each text `num_tries` changed ones, those that were there already left out; `model` is the masked language model, if any.

    Raises UnsupportedError where rules need a mask token and the tokenizer has none.
    """
    if not num_tries:
        return []
    texts, seed = [*job.texts, *(example.text for example in job.labelled)], job.training.seed
    if model is not None:
        guesser = read_checkpoint(find_model(model), task="fill-mask")
        return augment_with_model(texts, guesser, num_tries=num_tries, seed=seed)
    mask = job.checkpoint.tokenizer.fast.mask_token
    if mask is None:
        raise UnsupportedError("The tokenizer has no mask token to put in the place of words. Give a model that guesses words instead.")
    return augment(texts, num_tries=num_tries, mask=mask, seed=seed)
