"""S3: keys, client, published versions."""
