"""Whether a candidate may become production: evidence, decision, its page, and carrying it out."""
