"""Gold and predicted answers -> one figure in percent.

scikit-learn, scipy and seqeval take two seconds to import, so each function that needs one imports it.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from trtbert.config import Metric
from trtbert.errors import InputError
from trtbert.tasks import Task

METRICS: dict[Task, tuple[Metric, ...]] = {
    "text-classification": ("accuracy", "macro-f1", "spearman"),
    "token-classification": ("seqeval-f1", "accuracy"),
    "question-answering": ("squad-f1", "squad-em"),
    "sentence-similarity": ("spearman", "accuracy"),
    "text-ranking": ("ndcg@10",),
}
"""The metrics of each task that has any, the default first.

The accuracy of token-classification is that of its tokens, that of sentence-similarity that of the nearest mean of a class. The spearman of
text-classification is for models that give numbers, which have no other.
"""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """The share of predictions that equal the gold; 0 where there are none. For several labels a text, all of them must."""
    return 100.0 * sum(g == p for g, p in zip(gold, predicted, strict=True)) / max(len(gold), 1)


def macro_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """The mean F1 of the labels that are gold or predicted anywhere; each text has a tuple of labels, one or any number."""
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer().fit([*gold, *predicted])
    if not len(binarizer.classes_):  # No label was right to give, and none was given.
        return 100.0
    return 100.0 * float(f1_score(binarizer.transform(gold), binarizer.transform(predicted), average="macro", zero_division=0))


def seqeval_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """The micro F1 of whole entities, as conlleval counts them; each text has a tag a word. 100 where neither has an entity.

    Raises InputError for tags of another kind than O, B- and I- (and E- and S-).
    """
    from seqeval.metrics import f1_score

    for tag in {tag for tags in (*gold, *predicted) for tag in tags}:
        if tag != "O" and not tag.startswith(("B-", "I-", "E-", "S-")):
            raise InputError(f"seqeval-f1 counts entities tagged B-..., I-... and O, but there is the tag {tag!r}; choose accuracy.")
    return 100.0 * float(f1_score([list(tags) for tags in gold], [list(tags) for tags in predicted], average="micro", zero_division=1))


def squad_f1(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> float:
    """The mean over questions of the word F1 to the nearest gold answer, as SQuAD 2.0's own script has it.

    A question with no gold answer has no answer: "" is right.
    """
    return _best_of_golds(gold, predicted, _word_f1)


def squad_em(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> float:
    """The share of questions whose answer equals a gold one, but for case, punctuation, articles and white space."""
    return _best_of_golds(gold, predicted, lambda a, b: float(a == b))


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """The rank correlation, -100 to 100; 0 where either is constant."""
    from scipy.stats import spearmanr

    if len(set(gold)) < 2 or len(set(predicted)) < 2:
        return 0.0
    return 100.0 * float(spearmanr(gold, predicted).statistic)


def ndcg_at_10(gold: Sequence[Sequence[float]], predicted: Sequence[Sequence[float]]) -> float:
    """The mean NDCG of queries: each has its documents' relevances, which are the gains, and scores; equal scores share their places.

    A query with no relevant document counts as 0, one with nothing but a relevant document as 100.
    """
    from sklearn.metrics import ndcg_score

    def ndcg(relevances: Sequence[float], scores: Sequence[float]) -> float:
        if len(relevances) == 1:  # The library takes two documents or more.
            return float(relevances[0] > 0)
        return float(ndcg_score([relevances], [scores], k=10))

    return 100.0 * float(np.mean([ndcg(relevances, scores) for relevances, scores in zip(gold, predicted, strict=True)]))


def _best_of_golds(gold: Sequence[Sequence[str]], predicted: Sequence[str], score: Callable[[list[str], list[str]], float]) -> float:
    scores = []
    for answers, answer in zip(gold, predicted, strict=True):
        golds = [words for words in map(_words, answers) if words] or [[]]
        scores.append(max(score(words, _words(answer)) for words in golds))
    return 100.0 * float(np.mean(scores))


def _words(answer: str) -> list[str]:
    """SQuAD's normalisation: no case, punctuation, articles and white space."""
    return re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split()


def _word_f1(gold: list[str], predicted: list[str]) -> float:
    if not gold or not predicted:
        return float(gold == predicted)
    return 2 * (Counter(gold) & Counter(predicted)).total() / (len(gold) + len(predicted))
