output "key_spec" {
  description = "What KMS calls such a key."
  value       = local.spec.key
}

output "policy" {
  description = "The key's policy, JSON."
  value       = jsonencode(local.policy)
}

output "deletion_window_days" {
  description = "Days in which a deletion can be taken back."
  value       = var.deletion_window_days
}

output "address_options" {
  description = "What follows the key's ARN in the address that mirrorwitness takes with --key."
  value       = "?name=${urlencode(var.key_name)}"
}
