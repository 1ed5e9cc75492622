"""Image generators (notes 91 and 93)."""
