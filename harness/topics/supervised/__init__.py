"""A whole topic from one's own models, data and task."""
