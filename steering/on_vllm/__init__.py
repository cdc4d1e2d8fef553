"""The second engine: plain vLLM with a worker extension that steers, measures and keeps the prefix cache apart."""
