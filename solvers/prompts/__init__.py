"""What models are told, a module an experiment. Data only."""
