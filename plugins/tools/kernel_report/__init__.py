"""The kernels of plugins/kernels, compiled -> what they need, what they are made of, and whether that is allowed."""
