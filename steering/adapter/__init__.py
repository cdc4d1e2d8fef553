"""The bundled model's adapter: what teaches it the form of tool calls, and nothing about which call to make."""
