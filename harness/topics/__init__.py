"""One file a topic, reading top to bottom: data, networks, objective, evaluation."""
