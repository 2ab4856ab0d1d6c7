"""Every fault that a robot may meet, on the shipped bundle: what must happen, and how soon."""
