# Optional: GPU machines in an EKS cluster that exists, none while nothing runs. Pods reach the
# bucket through the trainer role (IRSA or pod identity), never through the machine's own.

locals {
  gpu = var.gpu_cluster == null ? [] : [var.gpu_cluster]
}

resource "aws_iam_role" "gpu" {
  count = length(local.gpu)
  name  = "dualvla-${var.bucket}-gpu-node"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "gpu" {
  for_each = toset(length(local.gpu) == 0 ? [] : [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryReadOnly",
  ])
  role       = aws_iam_role.gpu[0].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.key}"
}

# Pods may not take the machine's role: one network hop ends before them.
resource "aws_launch_template" "gpu" {
  count       = length(local.gpu)
  name_prefix = "dualvla-gpu-"
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 200
      encrypted   = true
    }
  }
}

resource "aws_eks_node_group" "gpu" {
  count           = length(local.gpu)
  cluster_name    = local.gpu[count.index]
  node_group_name = "dualvla-gpu"
  node_role_arn   = aws_iam_role.gpu[0].arn
  subnet_ids      = var.gpu_subnets
  instance_types  = [var.gpu_instance]
  ami_type        = "AL2023_x86_64_NVIDIA"
  labels          = { "dualvla/pool" = "gpu" }

  launch_template {
    id      = aws_launch_template.gpu[0].id
    version = aws_launch_template.gpu[0].latest_version
  }

  scaling_config {
    min_size     = 0
    desired_size = 0
    max_size     = var.gpu_most
  }

  # The autoscaler's business.
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  depends_on = [aws_iam_role_policy_attachment.gpu]
}
