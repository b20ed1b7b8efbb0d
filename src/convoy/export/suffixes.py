"""The formats of exported files and how their names end. Imports nothing, so that a typo is answered at once."""

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2"}
