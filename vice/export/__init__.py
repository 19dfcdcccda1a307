"""Models as files of other programs: graphs of ONNX and TorchScript, trunks of other libraries."""
