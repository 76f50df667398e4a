output "mirror_env" {
  description = "k8s/overlays/community-mirror/mirror.env, whole: terraform output -raw mirror_env"
  value = join("", [for line in [
    "MIRRORWITNESS_STORAGE=s3://${module.bucket.name}${var.endpoint == null ? "" : "?endpoint=${var.endpoint}"}",
    "MIRRORWITNESS_REGISTRY=${var.registry}",
    "MIRRORWITNESS_CONTACT=${var.contact}",
    "MIRRORWITNESS_PUBLIC_URL=${module.edge.url}",
    "AWS_REGION=${var.region}",
  ] : "${line}\n"])
}

output "service_accounts" {
  description = "A patch for the overlay: terraform output -raw service_accounts > …/service-accounts.yaml"
  value       = module.identity.service_accounts["npm-mirror"]
}

output "edge_domain_name" {
  description = "What the host name is an alias of, in the DNS."
  value       = module.edge.domain_name
}
