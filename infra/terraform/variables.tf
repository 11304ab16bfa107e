variable "region" {
  description = "AWS region; store.region in params.yaml"
  type        = string
  default     = "us-east-1"
}

variable "bucket" {
  description = "Name of the bucket; store.bucket in params.yaml"
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "trusted" {
  description = "ARNs that may assume each role: people for promoter, workers for trainer"
  type        = map(list(string))
  default     = {}
  validation {
    condition     = alltrue([for role in keys(var.trusted) : contains(["reader", "trainer", "promoter"], role)])
    error_message = "Roles are reader, trainer and promoter."
  }
  validation {
    condition     = alltrue([for arn in flatten(values(var.trusted)) : startswith(arn, "arn:")])
    error_message = "Name each principal by its ARN; nobody is trusted by a wildcard."
  }
}

variable "keep_overwritten_days" {
  description = "Days for which overwritten and deleted objects can be restored"
  type        = number
  default     = 90
  validation {
    condition     = var.keep_overwritten_days >= 7
    error_message = "A mistake must be found first: keep at least 7 days."
  }
}

variable "gpu_cluster" {
  description = "Name of an existing EKS cluster to add GPU machines to; null: none"
  type        = string
  default     = null
}

variable "gpu_subnets" {
  description = "Private subnets of the GPU machines"
  type        = list(string)
  default     = []
}

variable "gpu_instance" {
  description = "Instance type of the GPU machines"
  type        = string
  default     = "g6.2xlarge"
}

variable "gpu_most" {
  description = "Most GPU machines at a time; none is kept while nothing runs"
  type        = number
  default     = 2
}
