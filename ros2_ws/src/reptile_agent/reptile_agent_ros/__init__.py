"""The robot's nodes: policy_node controls, adapter_node learns, reference_node says where to."""
