"""A Hugging Face folder -> its config, weights, tokenizer and torch model, checked; and back."""
