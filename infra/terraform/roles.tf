# Three roles with the very policies that the local S3 server enforces in the tests.

locals {
  policies = "${path.module}/../../dualvla/store/policies"
  # Everyone reads; trainer and promoter have a policy of their own besides.
  roles = {
    reader   = ["reader"]
    trainer  = ["reader", "trainer"]
    promoter = ["reader", "promoter"]
  }
  # An unnamed role is the account's to give, by its own IAM policies.
  account = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

resource "aws_iam_policy" "access" {
  for_each    = toset(["reader", "trainer", "promoter"])
  name        = "dualvla-${var.bucket}-${each.key}"
  description = "What a ${each.key} may do in ${var.bucket}"
  policy      = templatefile("${local.policies}/${each.key}.json", { bucket = aws_s3_bucket.artifacts.id })
}

resource "aws_iam_role" "identity" {
  for_each             = local.roles
  name                 = "dualvla-${var.bucket}-${each.key}"
  max_session_duration = 43200
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = lookup(var.trusted, each.key, [local.account]) }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "identity" {
  for_each = merge([
    for role, policies in local.roles : { for policy in policies : "${role}-${policy}" => [role, policy] }
  ]...)
  role       = aws_iam_role.identity[each.value[0]].name
  policy_arn = aws_iam_policy.access[each.value[1]].arn
}
