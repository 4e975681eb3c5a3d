"""The stage `build`: a typed ONNX graph with fused nodes becomes an engine file for one target."""
