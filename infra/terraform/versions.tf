# What a real deployment keeps in AWS: the bucket, who may do what in it, and optional GPU machines.
# State holds no secret: roles are assumed, so there are no access keys to store.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.70"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = {
      project = "dualvla"
    }
  }
}
