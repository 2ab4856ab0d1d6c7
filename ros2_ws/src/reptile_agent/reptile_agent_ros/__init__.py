"""The nodes of reptile-agent: policy_node controls, adapter_node learns, reference_node asks."""
