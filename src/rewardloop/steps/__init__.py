"""One keyword-only function per pipeline step."""
