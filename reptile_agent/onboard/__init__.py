"""The robot's side: act, remember, adapt, guard. numpy and onnxruntime; no torch, no simulator."""
