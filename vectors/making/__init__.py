"""How libraries are made: stories, activations, directions, their quality and their default doses."""
