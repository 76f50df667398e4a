# An organization's own: a private mirror, a checksum database with an edge for monitors, and a witness whose key is in KMS
# and whose anchor is in another region, for the overlays org-partial-mirror, sumdb and witness.
#
#   terraform apply
#   terraform output -raw mirror_env  > ../../../k8s/overlays/org-partial-mirror/mirror.env
#   terraform output -raw sumdb_env   > ../../../k8s/overlays/sumdb/sumdb.env
#   terraform output -raw witness_env > ../../../k8s/overlays/witness/witness.env

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

# Another region: what restores the witness's state does not restore its anchor. Another account is better still.
provider "aws" {
  alias  = "elsewhere"
  region = var.anchor_region
}

locals {
  buckets = {
    mirror  = { kind = "mirror", readers = "nobody", edges = [] }
    sumdb   = { kind = "sumdb", readers = "edge", edges = [module.edge.arn] }
    witness = { kind = "witness", readers = "nobody", edges = [] }
  }
}

module "bucket" {
  source   = "../../modules/bucket"
  for_each = toset(["mirror", "sumdb", "witness"])

  name      = "${var.organization}-${each.key}"
  kind      = each.key
  readers   = local.buckets[each.key].readers
  edge_arns = local.buckets[each.key].edges

  conditional_writes_only = var.conditional_writes_only
  require_tls             = var.require_tls
}

module "anchor" {
  source    = "../../modules/bucket"
  providers = { aws = aws.elsewhere }

  name = "${var.organization}-witness-anchor"
  kind = "anchor"

  conditional_writes_only = var.conditional_writes_only
  require_tls             = var.require_tls
}

module "edge" {
  source = "../../modules/edge"

  kind               = "log"
  name               = "${var.organization}-sumdb"
  bucket_domain_name = module.bucket["sumdb"].domain_name
}

module "identity" {
  source = "../../modules/identity"

  account_id       = var.account_id
  oidc_issuer      = var.oidc_issuer
  signing_key_arns = [module.kms.arn]
  roles = {
    mirror        = { bucket_arn = module.bucket["mirror"].arn, namespace = "npm-mirror" }
    mirror-reader = { bucket_arn = module.bucket["mirror"].arn, namespace = "npm-mirror" }
    sumdb         = { bucket_arn = module.bucket["sumdb"].arn, namespace = "npm-sumdb" }
    sumdb-reader  = { bucket_arn = module.bucket["sumdb"].arn, namespace = "npm-sumdb" }
    witness = {
      bucket_arn        = module.bucket["witness"].arn
      anchor_bucket_arn = module.anchor.arn
      namespace         = "tlog-witness"
    }
  }
}

module "kms" {
  source = "../../modules/kms"

  key_name           = var.witness_name
  alias              = "${var.organization}-witness"
  signer_arn         = module.identity.arns["witness"]
  administrator_arns = var.administrator_arns
}
