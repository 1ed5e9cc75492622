"""Learning rates by recipe: the table that ships, and the search that finds them."""

from harness.rates.table import Rates, recipe, shipped

__all__ = ["Rates", "recipe", "shipped"]
