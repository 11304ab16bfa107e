output "bucket" {
  description = "store.bucket in params.yaml"
  value       = aws_s3_bucket.artifacts.id
}

output "roles" {
  description = "ARN of each role"
  value       = { for name, role in aws_iam_role.identity : name => role.arn }
}
