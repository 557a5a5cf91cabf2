"""A lab's own parts, as docs/own-parts.md shows them."""
