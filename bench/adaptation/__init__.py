"""The adaptation benchmark: does a meta-learned start adapt robots better? See docs/protocol.md."""
