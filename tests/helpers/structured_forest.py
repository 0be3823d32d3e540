"""A structured forest with one decision, in the format of OpenCV's model.yml.gz."""

import gzip
from pathlib import Path

OPTIONS = {
    "numberOfTrees": 1,
    "numberOfTreesToEvaluate": 1,
    "selfsimilarityGridSize": 5,
    "stride": 2,
    "shrinkNumber": 2,
    "patchSize": 32,
    "patchInnerSize": 16,
    "numberOfGradientOrientations": 4,
    "gradientSmoothingRadius": 0,
    "regFeatureSmoothingRadius": 2,
    "ssFeatureSmoothingRadius": 8,
    "gradientNormalizationRadius": 4,
}
CHANNELS = 13  # 3 of color, then the gradient and its 4 orientations at two scales


def write_forest(path: Path, threshold: float = 0.05, options: dict[str, int] = OPTIONS) -> Path:
    """Write a forest that finds an edge in the middle of each 32-pixel patch if its gradient is above a threshold."""
    gradient = 3 * 16 * 16 + 8 * 16 + 8
    bins = [channel * 16 * 16 + place for channel in range(CHANNELS) for place in (119, 120, 135, 136)]
    lines = ["%YAML:1.0", "---", "options:", *(f"   {name}: {value}" for name, value in options.items())]
    lines += [
        "childs: [ [ 2, 0, 0 ] ]",
        f"featureIds: [ [ {gradient}, 0, 0 ] ]",
        f"thresholds: [ [ {threshold}, 0., 0. ] ]",
        f"edgeBoundaries: [ [ 0, 0, 0, {len(bins)} ] ]",
        f"edgeBins: [ [ {', '.join(map(str, bins))} ] ]",
    ]
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path
