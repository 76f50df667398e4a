output "policy" {
  description = "The bucket's policy, JSON."
  value       = "{\"Version\":\"2012-10-17\",\"Statement\":[${join(",", local.statements)}]}"
}

output "lifecycle_rules" {
  description = "What is removed when: id, prefix, abort_days, expire_days, noncurrent_days; null is never."
  value       = concat(local.uploads, local.scratch, local.replaced)
}

output "public_prefixes" {
  description = "The public part."
  value       = local.kind.public
}

output "is_public" {
  description = "Whether the policy lets everybody read the public part."
  value       = var.readers == "everybody"
}

output "arn" {
  description = "ARN of the bucket."
  value       = local.arn
}
