"""From torch to ONNX: the start, the plan and the k-step update itself become a bundle."""
