"""What takes the place of trtbert's modules that need pydantic, in a model repository: Triton's Python has none."""
