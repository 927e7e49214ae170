"""The decision over HTTP: one question, asked a thousand times a second."""
