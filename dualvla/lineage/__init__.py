"""Where a figure, a model or an episode comes from, and making it again from git and S3."""
