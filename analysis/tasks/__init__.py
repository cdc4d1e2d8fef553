"""Tasks (RQ3): maths, frustration, capture the flag, and the timeline of one rollout."""
