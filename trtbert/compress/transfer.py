"""What a job holds -> the items that a model learns from a teacher: texts without labels, and labelled examples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import NO_LABEL, Item, encode_examples, encode_texts
from trtbert.compress.method import Job
from trtbert.data import Example, Text
from trtbert.errors import InputError


def transfer_items(checkpoint: Checkpoint, job: Job) -> list[Item]:
    """The texts that the teacher answers, those of the labelled examples where there are no others; InputError where there are none.

    Those of a tagger mark the first token of each word by a label that is no 'none', since only there its answers count.
    """
    texts: Sequence[Text] = job.texts or [example.text for example in job.labelled]
    if not texts:
        raise InputError("A student learns from texts, and there are none: give a file with --texts, or labelled examples with --data.")
    if checkpoint.task == "token-classification":
        return _words(checkpoint, texts, job.training.max_length)
    if checkpoint.task == "sentence-similarity":
        texts = list(_singles(texts))
    return encode_texts(checkpoint, texts, max_length=job.training.max_length)


def labelled_items(checkpoint: Checkpoint, job: Job) -> list[Item]:
    """Of the labelled examples, if there are any."""
    return encode_examples(checkpoint, job.labelled, max_length=job.training.max_length) if job.labelled else []


def with_choice(item: Item, choice: int | list[int]) -> Item:
    """The item with the teacher's choice as its label: a class, or a tag for each token, of which those of words' first ones are kept."""
    if isinstance(choice, int):
        return replace(item, label=choice)
    tags = [tag if mark != NO_LABEL else NO_LABEL for mark, tag in zip(item.label, choice, strict=False)]
    return replace(item, label=tags)


def _words(checkpoint: Checkpoint, texts: Sequence[Text], max_length: int) -> list[Item]:
    """As if each text, taken as words between spaces, were labelled."""
    split = [text.split() if isinstance(text, str) else " ".join(text).split() for text in texts]
    mark = checkpoint.labels[0]
    examples = [Example(" ".join(words), (mark,) * len(words), tuple(words)) for words in split]
    return encode_examples(checkpoint, examples, max_length=max_length)


def _singles(texts: Sequence[Text]) -> Iterator[str]:
    for text in texts:
        yield from [text] if isinstance(text, str) else text
