"""A student -> the multiplications and additions (MACs) of one text."""

from trtbert.checkpoint.students.models import Student, StudentForSequenceClassification


def student_macs(student: Student, *, length: int) -> int:
    """Of a text of `length` tokens: the convolution over its characters, the LSTMs, attention pooling and the linear layers.

    An LSTM has four gates in each direction, which read its input and its last state.
    """
    encoder, config = student.encoder(), student.config
    hidden, width = config.hidden_size, 2 * config.hidden_size
    inputs = [encoder.embeddings.size] + [width] * (config.num_hidden_layers - 1)
    a_token = sum(2 * 4 * hidden * (size + hidden) for size in inputs) + width * config.output_size
    if encoder.embeddings.characters is not None:
        kernel = encoder.embeddings.characters.convolution.kernel_size[0]
        a_token += config.piece_length * kernel * config.char_embedding_size * config.char_filters
    if encoder is student:
        return int(length * a_token)
    if not isinstance(student, StudentForSequenceClassification):
        return int(length * (a_token + width * config.num_labels))
    if student.attention is not None:
        a_token += width * width + 2 * width  # the hidden layer, the score, and the weighted sum
    return int(length * a_token + width * config.fc_size + (config.fc_size or width) * config.num_labels)
