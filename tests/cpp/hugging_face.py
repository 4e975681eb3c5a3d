"""What Hugging Face's tokenizer makes of texts, in the words of the driver."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtbert.data import Text
from trtbert.predictor import load_tokenizer


def encodings(file: Path, texts: Sequence[Text], max_length: int | None = None) -> list[dict[str, Any]]:
    """With `max_length` texts are cut; the attention mask is left out, which is 1 at each token (checked here)."""
    results = []
    for encoding in load_tokenizer(file, max_length=max_length).encode_batch(list(texts)):
        assert encoding.attention_mask == [1] * len(encoding)
        results.append(
            {
                "ids": encoding.ids,
                "type_ids": encoding.type_ids,
                "offsets": [list(offsets) for offsets in encoding.offsets],
                "words": [-1 if word is None else word for word in encoding.word_ids],
                "sequences": [-1 if sequence is None else sequence for sequence in encoding.sequence_ids],
                "tokens": encoding.tokens,
            }
        )
    return results
