"""What cells left: records, tables, comparisons, the page."""
