# A community's mirror: one bucket, an edge in front of its public part, and roles for the jobs of
# k8s/overlays/community-mirror. Nothing of ours has to run for anybody to install from it.
#
#   terraform apply && terraform output -raw mirror_env > ../../../k8s/overlays/community-mirror/mirror.env

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7"
    }
  }
}

provider "aws" {
  region = var.region
}

module "bucket" {
  source = "../../modules/bucket"

  name      = var.bucket
  kind      = "mirror"
  readers   = "edge"
  edge_arns = [module.edge.arn]

  conditional_writes_only = var.conditional_writes_only
  require_tls             = var.require_tls
}

module "edge" {
  source = "../../modules/edge"

  kind               = "registry"
  name               = var.bucket
  bucket_domain_name = module.bucket.domain_name
  host_names         = var.host_name[*]
  certificate_arn    = var.certificate_arn
}

module "identity" {
  source = "../../modules/identity"

  account_id  = var.account_id
  oidc_issuer = var.oidc_issuer
  roles = {
    for role in ["mirror", "mirror-reader"] : role => {
      bucket_arn = module.bucket.arn
      namespace  = "npm-mirror"
    }
  }
}
