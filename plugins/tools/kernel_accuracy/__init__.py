"""LayerNorm by our kernel and by the arithmetic of the plugin that it replaces -> the errors of both."""
