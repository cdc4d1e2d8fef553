"""The library: catalogue, stories, extraction, and the vectors of the bundled model."""
