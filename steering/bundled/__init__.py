"""The bundled model: its conversion, and the adapter that teaches it the form of tool calls."""
