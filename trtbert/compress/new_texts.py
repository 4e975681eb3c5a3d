"""A job's texts -> more of them for its teacher to answer, by rules or as a masked language model guesses."""

from pathlib import Path

from pydantic import Field, model_validator

from trtbert.checkpoint.hub import find_model
from trtbert.checkpoint.read import read_checkpoint
from trtbert.compress.augment import augment
from trtbert.compress.masked_words import augment_with_model
from trtbert.compress.method import Job, Options
from trtbert.data import Text
from trtbert.errors import UnsupportedError


class AugmentOptions(Options):
    """Of a method whose teacher answers changed texts too."""

    augment: int = Field(default=0, ge=0)
    """Times that each text is changed into a new one, which the teacher answers"""
    augment_model: Path | None = None
    """A masked language model that guesses the new words; without it, words are masked, replaced and left out by rules"""

    @model_validator(mode="after")
    def _has_use_for_the_model(self) -> "AugmentOptions":
        if self.augment_model is not None and not self.augment:
            raise ValueError("`augment_model` guesses words for `augment`: give `augment`, how often each text is changed, or leave it out")
        return self


def new_texts(job: Job, options: AugmentOptions) -> list[Text]:
    """Of each text the changed ones, those that were there already left out.

    Raises UnsupportedError where rules need a mask token and the tokenizer has none.
    """
    if not options.augment:
        return []
    texts, seed = [*job.texts, *(example.text for example in job.labelled)], job.training.seed
    if options.augment_model is not None:
        guesser = read_checkpoint(find_model(options.augment_model), task="fill-mask")
        return augment_with_model(texts, guesser, num_tries=options.augment, seed=seed)
    mask = job.checkpoint.tokenizer.fast.mask_token
    if mask is None:
        raise UnsupportedError("The tokenizer has no mask token to put in the place of words. Give a model that guesses words instead.")
    return augment(texts, num_tries=options.augment, mask=mask, seed=seed)
