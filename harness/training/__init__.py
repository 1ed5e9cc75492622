"""The interface that a topic implements, and the loop that trains its cells."""
