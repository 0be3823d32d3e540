"""Sources of datasets: known datasets and folder datasets."""
