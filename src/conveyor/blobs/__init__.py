"""Objects in buckets: `app.bucket("UPLOADS")`. Words and limits are those of Cloudflare's R2; the bytes lie in local
files, or where a URL says: S3, R2 and what speaks as they do."""
