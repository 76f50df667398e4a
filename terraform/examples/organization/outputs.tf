locals {
  query  = var.endpoint == null ? "" : "?endpoint=${var.endpoint}"
  anchor = var.anchor_endpoint == null ? "?region=${var.anchor_region}" : "?endpoint=${var.anchor_endpoint}"
}

output "mirror_env" {
  description = "k8s/overlays/org-partial-mirror/mirror.env, whole."
  value = join("", [for line in [
    "MIRRORWITNESS_STORAGE=s3://${module.bucket["mirror"].name}${local.query}",
    "MIRRORWITNESS_REGISTRY=${var.registry}",
    "MIRRORWITNESS_CONTACT=${var.contact}",
    "MIRRORWITNESS_SIGNATURES=require",
    "AWS_REGION=${var.region}",
  ] : "${line}\n"])
}

output "sumdb_env" {
  description = "k8s/overlays/sumdb/sumdb.env, whole."
  value = join("", [for line in [
    "STORAGE=s3://${module.bucket["sumdb"].name}${local.query}",
    "MIRRORWITNESS_REGISTRY=${var.registry}",
    "MIRRORWITNESS_CONTACT=${var.contact}",
    "AWS_REGION=${var.region}",
  ] : "${line}\n"])
}

output "witness_env" {
  description = "k8s/overlays/witness/witness.env, whole."
  value = join("", [for line in [
    "STORAGE=s3://${module.bucket["witness"].name}${local.query}",
    "ANCHOR=s3://${module.anchor.name}${local.anchor}",
    "POLLED_LOG=${var.polled_log}",
    "AWS_REGION=${var.region}",
  ] : "${line}\n"])
}

output "witness_key" {
  description = "What the witness takes with --key, in place of the file in k8s/base/witness."
  value       = module.kms.address
}

output "service_accounts" {
  description = "Patches for the overlays, by namespace."
  value       = module.identity.service_accounts
}
