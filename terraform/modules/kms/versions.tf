terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Ed25519 is in KMS since November 2025; older providers refuse its name.
      version = ">= 6.22, < 7"
    }
  }
}
