"""One file a learner; see `reptile_agent.meta.learner`."""
