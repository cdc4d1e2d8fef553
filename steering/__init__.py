"""Plan, chat, engine and provider: from a tool call to exactly the steering it asked for."""
