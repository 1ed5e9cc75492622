"""Results of a benchmark run: JSON records, tables, run comparisons and the HTML report."""
